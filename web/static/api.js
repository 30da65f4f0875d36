// What the page asks of its own server.

export class Failure extends Error {
  constructor(message, status) { super(message); this.status = status; }
}

async function checked(answer) {
  if (answer.ok) return answer;
  let message = `The page's server answered with status ${answer.status}.`;
  try { message = (await answer.json()).message || message; } catch { /* no JSON */ }
  throw new Failure(message, answer.status);
}

async function send(path, options = {}) {
  let answer;
  try { answer = await fetch(path, { credentials: "same-origin", ...options }); }
  catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The page's server does not answer. Is `videopure web` still running?", 0);
  }
  return checked(answer);
}

const posted = (body, signal) => ({
  method: "POST", body, signal, headers: { "Content-Type": "application/octet-stream" },
});

export const about = async (again) => (await send(again ? "/api/about?again" : "/api/about")).json();

export const sample = async (name) => (await send(`/api/samples/${encodeURIComponent(name)}`)).blob();

export const login = (token) => send("/api/login", { method: "POST", headers: { Authorization: `Bearer ${token}` } });

export async function ask(blob, options, signal) {
  const query = new URLSearchParams(options);
  return (await send(`/api/ask?${query}`, posted(blob, signal))).json();
}

// Calls onStep for every step, and returns the last line: the attacked clip.
export async function attack(blob, options, signal, onStep) {
  const answer = await send(`/api/attack?${new URLSearchParams(options)}`, posted(blob, signal));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Failure("The attack ended without a clip.", 0);
    text += value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines.map(JSON.parse)) {
      if (line.message) throw new Failure(line.message, 0);
      if (line.video) return line;
      onStep(line);
    }
  }
}

export function blobOf(base64, type) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type });
}
