"""Off-policy evaluation: estimates with a verdict, from log-probabilities; independent of any method."""
