// What every page shares: menu sheet, palette, copy buttons, toasts, shortcuts. Pages work without it.
(() => {
  const $ = (selector, from = document) => from.querySelector(selector);

  // Sections of the sidebar: what one opens and closes stays so on the next page. The server draws them, so nothing jumps.
  document.addEventListener("click", (event) => {
    const section = event.target.closest("[data-section] > summary")?.parentElement;
    if (!section) return;
    const before = document.cookie.split("; ").find((cookie) => cookie.startsWith("gh_sections="))?.slice(12) || "";
    const others = before.split(".").filter((part) => part && !part.startsWith(`${section.dataset.section}_`));
    const now = [...others, `${section.dataset.section}_${Number(!section.open)}`].join(".");  // the click comes before the change
    document.cookie = `gh_sections=${now}; path=/; max-age=31536000; samesite=lax`;
  });
  $("#side [aria-current=page]")?.scrollIntoView({ block: "nearest" });

  // The sidebar as a sheet on small screens.
  const closeSheet = (side) => { side.removeAttribute("data-open"); $("[data-menu]")?.setAttribute("aria-expanded", "false"); };
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    const menu = $("details.gh-menu[open]"), side = $("#side[data-open]");
    if (menu) { menu.removeAttribute("open"); $("summary", menu).focus(); }
    else if (side) { closeSheet(side); $("[data-menu]")?.focus(); }
  });
  document.addEventListener("click", (event) => {
    const burger = event.target.closest("[data-menu]");
    const side = $("#side");
    if (!side) return;
    if (burger) {
      const open = side.toggleAttribute("data-open");
      burger.setAttribute("aria-expanded", String(open));
      if (open) $("[aria-current=page]", side)?.focus();
    } else if (side.hasAttribute("data-open") && !event.target.closest("#side")) closeSheet(side);
    // An open menu closes when something else is clicked.
    for (const menu of document.querySelectorAll("details.gh-menu[open]")) if (!menu.contains(event.target)) menu.removeAttribute("open");
  });

  // Copy: data-copy names the element whose text or value is copied.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = $(button.dataset.copy);
    await navigator.clipboard.writeText(source.value ?? source.textContent.trim());
    const label = $("[data-copy-label]", button) || button;
    const before = label.textContent;
    label.textContent = "Copied";
    setTimeout(() => { label.textContent = before; }, 1500);
  });

  // Printing, which also saves as PDF.
  document.addEventListener("click", (event) => { if (event.target.closest("[data-print]")) window.print(); });
  if (document.querySelector("[data-print=now]")) addEventListener("load", () => window.print());

  // Dialogs: data-opens names a <dialog>; a button with data-closes inside closes it.
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-opens]");
    if (opener) { event.preventDefault(); $(opener.dataset.opens)?.showModal(); }
    if (event.target.closest("[data-closes]")) event.target.closest("dialog")?.close();
    if (event.target instanceof HTMLDialogElement) event.target.close();
  });
  // On a phone a strip of tabs begins at its left; the one that is open is brought into view.
  const showTab = (part) => part.querySelectorAll(".gh-tabs [aria-current]").forEach((tab) => { tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft - (tab.parentElement.clientWidth - tab.offsetWidth) / 2; });
  showTab(document);
  document.addEventListener("htmx:afterSettle", (event) => showTab(event.target));

  // A page that comes back with the outcome of a dialog shows it there.
  $("dialog[data-open]")?.showModal();

  // Toasts go after 6 s; failures stay until they are closed.
  const expire = (toast) => setTimeout(() => toast.remove(), 6000);
  document.querySelectorAll(".gh-toast:not(.is-fail)").forEach(expire);
  document.addEventListener("click", (event) => { event.target.closest("[data-dismiss]")?.closest(".gh-toast")?.remove(); });

  // A form is sent once; its buttons wait until the answer comes. A page from the back button has them again, but only those:
  // a button that the server locked stays locked.
  document.addEventListener("submit", (event) => {
    if (event.target.matches("[hx-get],[hx-post],[method=dialog]") || event.target.method === "get") return;
    setTimeout(() => event.target.querySelectorAll("button[type=submit]:enabled,button:not([type]):enabled").forEach((button) => { button.disabled = true; button.dataset.sent = ""; }));
  });
  addEventListener("pageshow", () => document.querySelectorAll("button[data-sent]").forEach((button) => { button.disabled = false; delete button.dataset.sent; }));

  // One tick for all of a name in a form, and it follows theirs.
  document.addEventListener("change", (event) => {
    const form = event.target.form, all = form && $("[data-tick-all]", form);
    if (!all) return;
    const rows = [...form.elements].filter((field) => field.name === all.dataset.tickAll);
    if (event.target === all) for (const row of rows) row.checked = all.checked;
    const ticked = rows.filter((row) => row.checked).length;
    all.checked = ticked === rows.length;
    all.indeterminate = ticked > 0 && ticked < rows.length;
  });

  // Acts on what is ticked in a list wait for a tick. The buttons keep their focus and say why; a list that came anew begins with none.
  const tellTicks = () => document.querySelectorAll("form[data-needs-tick]").forEach((form) => {
    const none = ![...form.elements].some((field) => field.type === "checkbox" && field.checked), why = $("[data-needs-tick-why]", form);
    why.hidden = !none;
    for (const button of form.querySelectorAll("button")) {
      button.classList.toggle("disabled", none);
      none ? button.setAttribute("aria-disabled", "true") : button.removeAttribute("aria-disabled");
      none ? button.setAttribute("aria-describedby", why.id) : button.removeAttribute("aria-describedby");
    }
  });
  tellTicks();
  document.addEventListener("change", tellTicks);
  document.addEventListener("htmx:afterSettle", tellTicks);
  addEventListener("pageshow", tellTicks); // the back button keeps ticks
  document.addEventListener("click", (event) => { if (event.target.closest("form[data-needs-tick] [aria-disabled]")) event.preventDefault(); });

  // Tabs that a list's filter does not swap lead to what is typed into it by now.
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form.gh-filters");
    if (form) document.querySelectorAll("[data-with-filter] a").forEach((tab) => {
      const url = new URL(tab.href);
      event.target.value ? url.searchParams.set(event.target.name, event.target.value) : url.searchParams.delete(event.target.name);
      tab.href = url;
    });
  });

  // Keyboard. Single keys never act inside a field.
  let pending = "";
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      const palette = $("#palette");
      if (palette) { event.preventDefault(); palette.open ? palette.close() : palette.showModal(); }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input,textarea,select,[contenteditable],dialog")) return;
    if (event.key === "/") { const filter = $("[data-filter]"); if (filter) { event.preventDefault(); filter.focus(); } return; }
    if (pending === "g") {
      pending = "";
      const link = $(`[data-go="${event.key.toLowerCase()}"]`);
      if (link) { event.preventDefault(); link.click(); }
    } else if (event.key.toLowerCase() === "g") {
      pending = "g";
      setTimeout(() => { pending = ""; }, 1200);
    } else if (event.key === "n") { $("[data-new]")?.click(); }
  });

  // Arrow keys walk the palette's results.
  document.addEventListener("keydown", (event) => {
    const palette = event.target.closest?.("#palette");
    if (!palette || !["ArrowDown", "ArrowUp"].includes(event.key)) return;
    const links = [...palette.querySelectorAll(".gh-palette a")];
    if (!links.length) return;
    event.preventDefault();
    const at = links.indexOf(document.activeElement);
    links[(at + (event.key === "ArrowDown" ? 1 : -1) + links.length) % links.length].focus();
  });
})();
