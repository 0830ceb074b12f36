// Labels that the generator is told: a choice of classes each. They stand behind s, as one-hot vectors.

export function buildLabels(model, chosen) {
  let at = model.s_dim;
  return model.labels.map(({ name, classes }) => {
    const label = makeLabel(name, classes, at);
    at += classes.length;
    label.select.addEventListener("change", () => chosen(label, Number(label.select.value)));
    document.querySelector("#seeds").append(label.line);
    return label;
  });
}

function makeLabel(name, classes, at) {
  const line = document.createElement("div"), select = document.createElement("select");
  const title = Object.assign(document.createElement("label"), { textContent: name, htmlFor: `label-${name}` });
  line.className = "line label";
  select.id = `label-${name}`;
  select.append(...[[-1, "(not told)"], ...classes.entries()].map(([k, text]) => new Option(text, k)));
  line.append(title, select);
  return {
    line,
    select,
    show: (s) => { select.value = s.slice(at, at + classes.length).findIndex((x) => x > 0.5); },
    set: (s, k) => s.map((x, i) => (i < at || i >= at + classes.length ? x : Number(i - at === k))),
  };
}
