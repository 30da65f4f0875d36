// The page: a clip goes in, a report comes out; every clip asked about keeps its tab.

import * as api from "./api.js";
import { get, make, show } from "./dom.js";
import { pause, setLayout } from "./player.js";
import { record, whyNot } from "./recorder.js";
import { showReport } from "./report.js";

const MOST_TABS = 12;
let about = { model: null, attack: { possible: false, why: "" } };
let entries = [], current = null, asking = null, attacking = null;

/* What the server is */

async function connect(again = false) {
  try { about = await api.about(again); }
  catch (error) {
    if (error.status === 401) { login(); return; }
    setProblem(error.message);
    return;
  }
  setProblem(about.problem);
  setLayout(about.layout);
  const { model } = about;
  get("model-text").textContent = model ? `${model.recogniser} behind ${model.purifier}, ${model.labels} classes, on ${model.device}` : about.server;
  get("foot").textContent = `${model && model.videopure ? `VideoPure ${model.videopure}, ` : ""}server ${about.server}`;
  const dot = document.querySelector(".dot");
  dot.className = `dot ${model ? "on" : "off"}`;
  samples(about.samples);
  options(model);
  get("attack-why").textContent = about.attack.possible ? "PGD on the archive's models, made on this machine." : about.attack.why;
  updateAttack();
}

function setProblem(text) {
  show(get("problem"), Boolean(text));
  get("problem-text").textContent = text || "";
  if (text) document.querySelector(".dot").className = "dot off";
}

function samples(names) {
  get("samples").replaceChildren(...names.map((name) => {
    const attacked = name.endsWith("-attacked");
    const label = name.replace(/-(clean|attacked)$/, "").replaceAll("-", " ");
    const button = make("button", { type: "button", "aria-pressed": "false" }, label, make("small", { text: attacked ? "attacked" : "clean" }));
    button.dataset.name = name;
    button.addEventListener("click", () => takeSample(name));
    return make("li", { className: attacked ? "attacked" : "" }, button);
  }));
}

async function takeSample(name) {
  try { start(await api.sample(name), name, name); } catch (error) { fail(error); }
}

function options(model) {
  const method = get("method"), steps = get("steps");
  show(get("options"), Boolean(model) && about.operator);
  if (!model) return;
  method.replaceChildren(...model.methods.map((name) => make("option", {
    value: name, text: name === model.method ? `${name} (the archive's)` : name, selected: name === model.method,
  })));
  steps.max = model.most_steps ?? 10;
  steps.value = model.steps ?? 1;
  get("steps-value").textContent = steps.value;
}

function chosen() {
  const { model } = about, found = {};
  if (!model || !about.operator) return found;
  if (get("method").value !== model.method) found.method = get("method").value;
  if (Number(get("steps").value) !== model.steps) found.inversion_steps = get("steps").value;
  return found;
}

/* Asking */

async function start(blob, name, sample = null, attack = null) {
  if (asking) asking.abort();
  const control = asking = new AbortController();
  document.querySelectorAll("#samples button").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.name === sample)));
  show(get("error"), false); show(get("empty"), false); show(get("report"), false); show(get("busy"), true);
  pause();
  say(`Asking about ${name}`);
  get("busy-text").textContent = `Purifying ${name} and voting…`;
  try {
    const wanted = attack ? { ...chosen(), clips: 1 } : chosen();
    const report = await api.ask(blob, wanted, control.signal);
    if (control !== asking) return;
    add({ name, blob, sample, attack, report });
  } catch (error) {
    if (control !== asking) return;
    if (error.name === "AbortError") { back(); return; }
    fail(error);
  } finally {
    if (control === asking) { asking = null; show(get("busy"), false); updateAttack(); }
  }
}

function back() {
  if (current) select(current); else show(get("empty"), true);
}

function fail(error) {
  if (error.status === 401) { login(); return; }
  show(get("busy"), false); show(get("report"), false); show(get("empty"), false);
  get("error-text").textContent = error.message;
  show(get("error"), true);
  current = null;
  tabs();
  if (!error.status || error.status === 502) connect(true);
}

function add(entry) {
  entries = [...entries, entry].slice(-MOST_TABS);
  select(entry);
  if (matchMedia("(max-width: 980px)").matches) get("result").scrollIntoView({ block: "start" });
}

function select(entry) {
  current = entry;
  show(get("error"), false); show(get("empty"), false); show(get("busy"), Boolean(asking));
  showReport(entry, about);
  tabs();
  updateAttack();
  say(`${entry.name}. ${get("headline").textContent}. ${get("badge").textContent}.`);
}

function tabs() {
  const bar = get("tabs");
  show(bar, entries.length > 1 || (entries.length === 1 && !current));
  bar.replaceChildren(...entries.map((entry) => {
    const button = make("button", { type: "button", text: entry.name, "aria-current": String(entry === current) });
    button.addEventListener("click", () => select(entry));
    return button;
  }));
  const active = bar.querySelector('[aria-current="true"]');
  if (active && !bar.hidden) bar.scrollLeft = active.offsetLeft - bar.offsetLeft - 40;
}

const say = (text) => { get("status").textContent = text; };

/* Attacking */

function updateAttack() {
  const ready = about.attack.possible && current && !attacking && !asking;
  get("attack-fields").disabled = !ready;
  if (about.attack.possible) {
    get("attack-why").textContent = current ? `PGD on ${current.attack ? current.attack.of.name : current.name}, made on this machine.`
      : "PGD on the archive's models, made on this machine. Take a clip first.";
  }
}

async function runAttack(event) {
  event.preventDefault();
  const of = current.attack ? current.attack.of : current; // always from the clean clip
  const epsilon = get("epsilon").value, steps = get("attack-steps").value, knows = get("knows").value;
  const control = attacking = new AbortController();
  const bar = get("attack-progress"), text = get("attack-text");
  bar.max = Number(steps); bar.value = 0; text.textContent = "Starting…";
  show(get("attack-running"), true); show(get("error"), false);
  updateAttack();
  try {
    const made = await api.attack(of.blob, { epsilon, steps, knows }, control.signal, (line) => {
      bar.value = line.step;
      text.textContent = `Step ${line.step} of at most ${line.of}`;
    });
    const { answer, bare } = of.report;
    const clean = { bare: bare ? bare[0].label : made.before[0], pure: answer.predictions[0].label };
    const name = `${of.name}, attacked at ${epsilon}/255${knows === "everything" ? " with everything known" : ""}`;
    await start(api.blobOf(made.video, "video/mp4"), name, null, { of, clean, largest: made.largest });
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  } finally {
    attacking = null;
    show(get("attack-running"), false);
    updateAttack();
  }
}

/* Clips */

function takeFile(file) {
  if (file) start(file, file.name);
}

const drop = get("drop");
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) {
  drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.remove("over"); });
}
drop.addEventListener("drop", (event) => takeFile(event.dataTransfer.files[0]));
get("choose").addEventListener("click", () => get("file").click());
get("file").addEventListener("change", (event) => { takeFile(event.target.files[0]); event.target.value = ""; });

const recordButton = get("record");
if (whyNot()) { recordButton.disabled = true; recordButton.title = whyNot(); }
recordButton.addEventListener("click", async () => {
  recordButton.disabled = true;
  try { start(await record(), `recording ${entries.length + 1}`); }
  catch (error) { fail(error); }
  finally { recordButton.disabled = false; }
});

/* Theme, token, the rest */

const THEMES = ["auto", "light", "dark"];
function theme(next) {
  const root = document.documentElement;
  let now = root.dataset.theme || "auto";
  if (next) {
    now = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    if (now === "auto") delete root.dataset.theme; else root.dataset.theme = now;
    try { localStorage.setItem("theme", now); } catch { /* storage is off */ }
  }
  get("theme").textContent = `Theme: ${now}`;
}
get("theme").addEventListener("click", () => theme(true));
theme(false);

function login() { if (!get("login").open) get("login").showModal(); }

async function enter(token) {
  try { await api.login(token); }
  catch (error) {
    get("login-error").textContent = error.status === 401 ? "This is not the token." : error.message;
    login();
    return;
  }
  get("login").close();
  connect();
}
get("login-form").addEventListener("submit", (event) => { event.preventDefault(); enter(get("token").value.trim()); });

get("again").addEventListener("click", () => connect(true));
get("ask-stop").addEventListener("click", () => { if (asking) asking.abort(); });
get("attack").addEventListener("submit", runAttack);
get("attack-stop").addEventListener("click", () => { if (attacking) attacking.abort(); });
get("epsilon").addEventListener("input", (event) => { get("epsilon-value").textContent = `${event.target.value}/255`; });
get("steps").addEventListener("input", (event) => { get("steps-value").textContent = event.target.value; });
get("copy").addEventListener("click", async () => {
  try { await navigator.clipboard.writeText(get("json").textContent); say("Copied"); get("copy").textContent = "Copied"; }
  catch { get("copy").textContent = "Select the text to copy it"; }
});

const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {
  history.replaceState(null, "", location.pathname); // out of the address bar and the history
  enter(token);
} else connect();
