// Records a few seconds of the camera.

import { get, show } from "./dom.js";

const SECONDS = 4;
const KINDS = ["video/webm;codecs=vp8", "video/webm", "video/mp4"];

export function whyNot() {
  if (!navigator.mediaDevices || !window.MediaRecorder) {
    return window.isSecureContext ? "This browser cannot record." : "Browsers record on https or on this machine only.";
  }
  return null;
}

// Resolves to the recording; rejects with a sentence for people.
export async function record() {
  let stream;
  try { stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } }, audio: false }); }
  catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "The browser does not let this page use the camera."
      : error.name === "NotFoundError" ? "There is no camera." : `The camera cannot be used (${error.name}).`);
  }
  const preview = get("preview"), text = get("camera-text"), stop = get("stop-recording");
  preview.srcObject = stream;
  show(get("camera"), true);
  await preview.play().catch(() => {});
  const mimeType = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
  const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: 4_000_000 });
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const ended = new Promise((resolve) => { recorder.onstop = resolve; });
  const end = () => { if (recorder.state !== "inactive") recorder.stop(); };
  stop.onclick = end;
  let left = SECONDS;
  const tell = () => { text.textContent = `Recording, ${left} s left`; };
  const clock = setInterval(() => { left -= 1; if (left <= 0) end(); else tell(); }, 1000);
  tell();
  recorder.start(250);
  await ended;
  clearInterval(clock);
  stream.getTracks().forEach((track) => track.stop());
  preview.srcObject = null;
  show(get("camera"), false);
  return new Blob(parts, { type: recorder.mimeType.split(";")[0] });
}
