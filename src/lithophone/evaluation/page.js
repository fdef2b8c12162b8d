"use strict";
// One clip sounds at a time.
document.addEventListener("play", (event) => {
  for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
}, true);

const field = document.querySelector("input[type=search]");
if (field) {
  const clips = [...document.querySelectorAll("article")].map((clip) => [clip, clip.textContent.toLowerCase()]);
  const output = document.querySelector(".filter output");
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let shown = 0;
    for (const [clip, text] of clips) {
      clip.hidden = !text.includes(wanted);
      shown += clip.hidden ? 0 : 1;
    }
    output.textContent = wanted ? `${shown} of ${clips.length}` : "";
  });
}
