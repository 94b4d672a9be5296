"use strict";
// Shows the picture and the label map that the controls choose.
const controls = document.getElementById("controls");
if (controls) {
  const viewer = document.getElementById("viewer");
  const update = () => {
    const chosen = new FormData(controls);
    for (const part of viewer.querySelectorAll("[data-sample]")) {
      part.hidden = part.dataset.sample !== chosen.get("sample");
    }
    for (const part of viewer.querySelectorAll("[data-layer]")) {
      const unwanted = part.classList.contains("marks") && !chosen.has("marks");
      part.hidden = part.dataset.layer !== chosen.get("layer") || unwanted;
    }
    viewer.style.setProperty("--strength", chosen.get("strength") / 100);
  };
  controls.addEventListener("input", update);
  viewer.querySelector(".pictures").addEventListener("input", update);
  update();  // on reload, a browser keeps the choices
}
