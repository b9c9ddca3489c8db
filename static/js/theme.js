// Sets the theme before the first paint, so that nothing flashes. The wish comes from the person's settings (data-theme).
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const wanted = root.dataset.theme;
    root.dataset.bsTheme = wanted === "light" || wanted === "dark" ? wanted : system.matches ? "dark" : "light";
    root.dispatchEvent(new CustomEvent("gh:theme"));
  };
  apply();
  system.addEventListener("change", apply);
})();
