// Small helpers. Texts are set as text, never as HTML: labels, names and errors are not ours.

export const get = (id) => document.getElementById(id);

export function make(tag, { text, ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "scope") element.setAttribute(name, value);
    else element[name] = value;
  }
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

export function draw(tag, attributes = {}, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

export const show = (element, shown) => { element.hidden = !shown; };

export const percent = (score) => (score === null || score === undefined ? "" : `${(100 * score).toFixed(1)} %`);
