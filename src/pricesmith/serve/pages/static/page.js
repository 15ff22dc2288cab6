// Small conveniences; every page works without this file.
document.addEventListener("htmx:error", () => {
  const box = document.getElementById("unreachable");
  const place = document.getElementById("result");
  if (box && place) place.replaceChildren(box.content.cloneNode(true));
});
document.addEventListener("htmx:after:swap", () => {
  const headline = document.getElementById("headline");
  const announce = document.getElementById("announce");
  if (headline && announce && announce.textContent !== headline.textContent) announce.textContent = headline.textContent;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches?.("textarea")) {
    event.preventDefault();
    event.target.form?.requestSubmit();
  }
});
