// One film of three panels, drawn on three canvases: they play together because they are one.

import { draw, get, show } from "./dom.js";

const film = get("film"), seek = get("seek"), play = get("play");
const canvases = [0, 1, 2].map((number) => get(`panel-${number}`));
let layout = { caption: 32, gap: 8, gain: 8 };
let frames = 16, address = null;

export function setLayout(told) {
  layout = told;
  get("difference").textContent = `Difference, amplified ${told.gain}×`;
}

export function load(blob, count) {
  frames = Math.max(2, count);
  seek.max = frames - 1;
  if (address) URL.revokeObjectURL(address);
  address = blob ? URL.createObjectURL(blob) : null;
  show(get("player"), Boolean(blob));
  show(get("no-film"), false);
  if (!blob) { film.removeAttribute("src"); film.load(); return; }
  film.src = address;
  film.playbackRate = Number(get("rate").value);
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) film.play().catch(() => {});
  icon();
}

export const pause = () => film.pause();

function paint() {
  const { videoWidth: width, videoHeight: height } = film;
  if (!width || film.readyState < 2) return;
  const { caption, gap } = layout;
  const side = Math.floor((width - 2 * gap) / 3), tall = height - caption;
  canvases.forEach((canvas, number) => {
    if (canvas.width !== side || canvas.height !== tall) {
      [canvas.width, canvas.height] = [side, tall];
      canvas.style.aspectRatio = `${side} / ${tall}`;
    }
    canvas.getContext("2d").drawImage(film, number * (side + gap), caption, side, tall, 0, 0, side, tall);
  });
  const now = Math.min(frames - 1, Math.floor((film.currentTime / film.duration) * frames + 1e-3));
  if (!film.paused) seek.value = now;
  get("frame").textContent = `${now + 1} of ${frames}`;
  seek.setAttribute("aria-valuetext", `frame ${now + 1} of ${frames}`);
}

function loop() {
  paint();
  if (!film.paused && !film.ended) requestAnimationFrame(loop);
}

function icon() {
  const shape = film.paused ? "M5 3v14l12-7z" : "M4 3h4v14H4zM12 3h4v14h-4z";
  const svg = draw("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" });
  svg.append(draw("path", { d: shape }));
  play.replaceChildren(svg);
  play.setAttribute("aria-label", film.paused ? "Play" : "Pause");
}

film.addEventListener("play", () => { icon(); loop(); });
film.addEventListener("pause", icon);
film.addEventListener("loadeddata", paint);
film.addEventListener("seeked", paint);
film.addEventListener("error", () => {
  if (!film.getAttribute("src")) return;
  const text = get("no-film");
  text.textContent = "This browser does not play H.264 videos, so the clips cannot be shown.";
  show(text, true);
});
play.addEventListener("click", () => { if (film.paused) film.play(); else film.pause(); });
seek.addEventListener("input", () => {
  film.pause();
  film.currentTime = ((Number(seek.value) + 0.5) / frames) * film.duration;
});
get("rate").addEventListener("change", () => { film.playbackRate = Number(get("rate").value); });
