"use strict";
// Draws every plot from the JSON beside it and keeps its colours in step with the reader's scheme and with paper.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const ink = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    return { text: of("--text"), muted: of("--muted"), line: of("--line"), paper: of("--paper"), font: of("--sans") };
  };
  const axis = (colours) => ({
    gridcolor: colours.line, linecolor: colours.line, tickcolor: colours.line, zerolinecolor: colours.line,
  });
  const dressed = (layout, colours) => ({
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: colours.font, size: 13, color: colours.muted },
    hoverlabel: {
      ...layout.hoverlabel, bgcolor: colours.paper, bordercolor: colours.line, font: { color: colours.text, size: 13 },
    },
    xaxis: { ...layout.xaxis, ...axis(colours) },
    yaxis: { ...layout.yaxis, ...axis(colours) },
  });
  const plots = [...document.querySelectorAll("[data-plot]")].map((place) => ({
    place, spec: JSON.parse(document.getElementById(place.dataset.plot).textContent),
  }));
  const draw = () => {
    const colours = ink();
    return Promise.all(plots.map(({ place, spec }) => Plotly.react(
      place, spec.data, dressed(spec.layout, colours), { displayModeBar: false },
    )));
  };
  const follow = new ResizeObserver((entries) => entries.forEach(({ target }) => Plotly.Plots.resize(target)));
  draw().then(() => {
    plots.forEach(({ place }) => follow.observe(place));
    document.documentElement.dataset.drawn = String(plots.length);
  });
  dark.addEventListener("change", draw);
  window.addEventListener("beforeprint", draw);
  window.addEventListener("afterprint", draw);
})();
