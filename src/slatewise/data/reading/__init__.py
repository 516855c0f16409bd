"""Reading of logs in foreign formats into canonical rows, with every fault named by line and column."""
