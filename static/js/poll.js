// Keeps a fragment fresh while somebody looks at it: data-poll="<seconds>" on an element with hx-get and hx-trigger="gh-poll".
// Waits while the page is hidden, or while the person types or has a dialog open, so that nothing half-written is swapped away.
(() => {
  const busy = (element) =>
    document.querySelector("dialog[open]") ||
    (element.contains(document.activeElement) && document.activeElement.matches("input,textarea,select,summary")) ||
    [...element.querySelectorAll("textarea")].some((field) => field.value !== field.defaultValue);
  const start = (element) => {
    const timer = setInterval(() => {
      if (!element.isConnected) { clearInterval(timer); return; }
      if (document.visibilityState === "visible" && !busy(element)) htmx.trigger(element, "gh-poll");
    }, Number(element.dataset.poll) * 1000);
  };
  const watch = (root) => {
    const elements = [...root.querySelectorAll("[data-poll]")];
    if (root.matches?.("[data-poll]")) elements.push(root);
    for (const element of elements) if (!element.dataset.polling) { element.dataset.polling = "1"; start(element); }
  };
  watch(document);
  document.addEventListener("htmx:load", (event) => watch(event.target));
})();
