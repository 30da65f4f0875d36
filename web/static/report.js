// Shows one report: the two answers, the film, the votes, the suspicion.

import { draw, get, make, percent, show } from "./dom.js";
import { load } from "./player.js";
import { blobOf } from "./api.js";

export function showReport(entry, about) {
  const { report } = entry;
  const { answer } = report;
  const bare = report.bare || (answer.undefended ? [answer.undefended] : null);
  const differs = Boolean(bare) && bare[0].label_id !== answer.predictions[0].label_id;
  get("clip-name").textContent = entry.name;
  verdict(entry, answer, bare, differs);
  get("warnings").replaceChildren(...answer.warnings.map((text) => make("li", { text: sentence(text) })));
  get("bare-card").classList.toggle("differs", differs);
  bars(get("bare-bars"), bare, "The server does not tell it: start the page in the folder that holds the operator's key.");
  bars(get("pure-bars"), answer.predictions, "");
  load(report.evidence ? blobOf(report.evidence, "video/mp4") : null, answer.video.frame_indices.length);
  votes(report.votes || answer.votes, answer);
  gauge(answer.suspicion, answer.purification, about.model);
  details(answer);
  show(get("report"), true);
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`;

function verdict(entry, answer, bare, differs) {
  const label = answer.predictions[0].label;
  const alarm = answer.suspicion ? answer.suspicion.adversarial : null;
  let title = `“${label}”`, text = "The server does not tell what the recogniser alone answers.";
  if (bare && differs) {
    title = `“${bare[0].label}” without VideoPure, “${label}” with it`;
    text = "The recogniser changes its answer when the clip is purified.";
  } else if (bare) {
    title = `“${label}”`;
    text = "The recogniser gives the same answer with and without purification.";
  }
  if (entry.attack) text = attackText(entry, bare, label);
  get("headline").textContent = title;
  get("explanation").textContent = text;
  const badge = get("badge"), card = get("verdict");
  const state = alarm === true ? "alarm" : alarm === false ? "good" : "";
  badge.className = `badge ${state}`;
  card.className = `card verdict ${state}`;
  badge.textContent = { alarm: "Alarm: probably an attack", good: "No alarm", "": "No alarm set for these settings" }[state];
}

function attackText(entry, bare, label) {
  const { attack } = entry;
  const fell = bare && bare[0].label !== attack.clean.bare;
  const lost = label !== attack.clean.pure;
  const words = `The attack changed no pixel by more than ${attack.largest}/255.`;
  const alone = !bare ? "" : fell ? ` It turned the recogniser from ${attack.clean.bare} to ${bare[0].label}.`
    : " The recogniser alone withstood it.";
  const pure = lost ? ` It turned VideoPure from ${attack.clean.pure} to ${label}.` : ` VideoPure still answers ${label}.`;
  return words + alone + pure;
}

function bars(target, predictions, missing) {
  if (!predictions) { target.replaceChildren(make("p", { className: "hint", text: missing })); return; }
  target.replaceChildren(...predictions.map((one, place) => {
    const fill = make("div", { className: "fill" });
    fill.style.width = `${100 * (one.score ?? (place ? 0 : 1))}%`;
    return make("div", { className: place ? "bar" : "bar first" },
      make("span", { className: "name", text: one.label, title: one.label }),
      make("span", { className: "score", text: percent(one.score) }),
      make("div", { className: "track", "aria-hidden": "true" }, fill));
  }));
}

function votes(told, answer) {
  const text = get("votes-text"), rows = get("votes");
  if (!told) {
    text.textContent = answer.purification ? "The server does not tell the votes." : "The clip was not purified.";
    rows.replaceChildren();
    return;
  }
  const chosen = answer.predictions[0].label;
  const counted = answer.votes ? answer.votes.counted : told.counted;
  const several = new Set(told.by_step.map((step) => step.clip)).size > 1;
  const all = told.of === 1 ? "One vote" : `${told.of} votes`;
  text.textContent = counted < told.of ? `${all}; counting stopped after ${counted}, when the rest could not change the label.`
    : told.of === 1 ? "One vote, which is the answer." : `${all}, ${Math.round(100 * told.agreement)} % for the answer.`;
  rows.replaceChildren(...told.by_step.map((step, place) => {
    const bar = make("span");
    bar.style.width = `${100 * step.score}%`;
    const spare = !several && place >= counted;
    const level = step.timestep === 0 ? "0 (last)" : String(step.timestep);
    const row = make("tr", { className: step.label === chosen ? "" : "against" },
      make("td", { text: several ? `clip ${step.clip + 1}, ${level}` : level }),
      make("td", { text: step.label }, ...(spare ? [make("small", { text: " not needed" })] : [])),
      make("td", {}, make("span", { className: "meter", "aria-hidden": "true" }, bar), percent(step.score)));
    if (spare) row.classList.add("spare");
    return row;
  }));
}

const CENTRE = [100, 98], RADIUS = 78;

function point(share, radius) {
  const angle = Math.PI * (1 - share);
  return [CENTRE[0] + radius * Math.cos(angle), CENTRE[1] - radius * Math.sin(angle)].map((n) => n.toFixed(2));
}

function arc(from, to) {
  const [x, y] = point(from, RADIUS), [u, v] = point(to, RADIUS);
  return `M${x} ${y}A${RADIUS} ${RADIUS} 0 0 1 ${u} ${v}`;
}

function gauge(suspicion, purification, model) {
  const svg = get("gauge"), text = get("gauge-text");
  const score = suspicion ? suspicion.score : null, alarm = suspicion ? suspicion.adversarial : null;
  const threshold = model && purification && purification.calibrated ? model.threshold : null;
  const state = alarm === true ? "alarm" : alarm === false ? "good" : "";
  const parts = [draw("path", { class: "ring", d: arc(0, 1) })];
  if (score !== null && score > 0.004) parts.push(draw("path", { class: `value ${state}`, d: arc(0, Math.min(1, score)) }));
  if (threshold !== null && threshold !== undefined) {
    const [x, y] = point(threshold, RADIUS - 14), [u, v] = point(threshold, RADIUS + 14);
    parts.push(draw("line", { class: "mark", x1: x, y1: y, x2: u, y2: v }));
  }
  parts.push(draw("text", { class: "number", x: 100, y: 92 }, score === null ? "–" : score.toFixed(2)));
  parts.push(draw("text", { class: "ends", x: 22, y: 116 }, "0"), draw("text", { class: "ends", x: 178, y: 116 }, "1"));
  svg.replaceChildren(...parts);
  let words = "The clip was not purified.";
  if (suspicion && alarm === null) words = "No threshold is set for these settings.";
  else if (suspicion && score === null) words = alarm ? "Above the threshold: probably an attack." : "Below the threshold.";
  else if (suspicion && alarm) words = `Above the threshold of ${rounded(threshold)}: probably an attack.`;
  else if (suspicion) words = `Below the threshold of ${rounded(threshold)}.`;
  text.textContent = words;
  svg.setAttribute("aria-label", `Suspicion ${score === null ? "not told" : score.toFixed(2)} of 1. ${words}`);
}

const rounded = (value) => (value === null || value === undefined ? "the archive" : String(Number(value.toPrecision(2))));

function details(answer) {
  const { video, purification, timing_ms: timing } = answer;
  const facts = [
    ["Video", `${video.frames} frames, ${video.width}×${video.height}${video.fps ? `, ${Number(video.fps.toFixed(2))} frames a second` : ""}`],
    ["Frames used", String(video.frame_indices.length)],
    ["Purification", purification ? `${purification.method}, ${purification.inversion_steps === null ? "steps drawn" : `${purification.inversion_steps} inversion steps`}, ${purification.speed}` : "none"],
    ["Time in the server", `${Math.round(timing.total)} ms`],
    ["Request", answer.request_id],
  ];
  get("facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: value })]));
  get("json").textContent = JSON.stringify(answer, null, 2);
}
