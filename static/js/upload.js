// An upload that says how far it is: bytes while it is sent, then rows while the server reads it. Both can be cancelled.
// The form comes back without its files where it is refused, and htmx keeps the old field (hx-preserve), so nothing is chosen twice.
(() => {
  const card = document.querySelector("[data-upload]");
  const part = (name) => card.querySelector(`[data-upload-${name}]`);
  const [progress, said, told, failed] = ["progress", "said", "told", "failed"].map(part);
  const bar = progress.querySelector("progress");
  const mb = (bytes) => (bytes / 1048576).toFixed(1);
  const STOPPING = "Stopping…";
  let timer = 0, sent = false, cancelled = false, quarter = 0;

  // Said aloud when a step begins and at each quarter; the figures in between are for the eye.
  const say = (text, aloud) => { said.textContent = text; bar.setAttribute("aria-valuetext", text); if (aloud) told.textContent = text; };
  const fail = (text) => { failed.hidden = !text; failed.lastElementChild.textContent = text; };
  const refusal = (status) => status === 403 ? "The server refused it: you may have signed out, or no longer have the right to upload bills. Load the page again to see."
    : status === 413 ? "It is larger than the server's front takes at once. Send fewer or smaller files, compressed by gzip, or as Parquet."
      : status >= 500 ? `The server answered ${status}. What you chose is still here: try again.` : `The server refused it with ${status}.`;
  const ask = (url, options) => fetch(url, { ...options, headers: { "HX-Request": "true", "X-CSRFToken": card.querySelector("[name=csrfmiddlewaretoken]").value } });

  // What the server says of this import, once a second. It does not know of it while it still sorts the parts of the request.
  const look = async () => {
    const id = card.querySelector("[name=import_id]").value;
    try {
      if (cancelled && (await ask(card.dataset.stop.replace("IMPORT", id), { method: "POST" })).ok) cancelled = false; // until it took hold
      const page = new DOMParser().parseFromString(await (await ask(card.dataset.imports)).text(), "text/html");
      const now = page.querySelector(`[data-import="${id}"]`);
      if (now && timer && said.textContent !== STOPPING) say(`Sent. ${now.textContent}. You may leave, it goes on.`);
    } catch { /* the upload's own answer says what is wrong */ }
    if (timer) timer = setTimeout(look, 1000);
  };

  card.addEventListener("htmx:beforeSend", () => {
    [sent, cancelled, quarter] = [false, false, 0];
    fail("");
    progress.hidden = false;
    bar.removeAttribute("value");
    say("Sending…", true);
  });
  card.addEventListener("htmx:xhr:progress", ({ detail }) => {
    if (sent || !detail.lengthComputable) return;
    sent = detail.loaded === detail.total;
    bar.max = detail.total;
    bar.value = detail.loaded;
    const now = Math.floor(4 * detail.loaded / detail.total);
    say(`${mb(detail.loaded)} of ${mb(detail.total)} MB sent`, now > quarter);
    quarter = now;
    if (!sent) return;
    bar.removeAttribute("value");
    say("Sent. The server reads it. You may leave, it goes on.", true);
    timer = setTimeout(look, 1000);
  });
  part("cancel").addEventListener("click", () => {
    cancelled = true;
    say(STOPPING, true);
    if (!sent) htmx.trigger(card.querySelector("form"), "htmx:abort");
  });
  // The kept field does not know what the new form says of it.
  const tell = () => {
    const field = card.querySelector("[type=file]");
    const notes = ["id_file_helptext", "id_file_error"].filter((id) => document.getElementById(id));
    field.setAttribute("aria-invalid", notes.includes("id_file_error"));
    field.setAttribute("aria-describedby", notes.join(" "));
  };
  card.addEventListener("htmx:afterRequest", () => {
    tell();
    clearTimeout(timer);
    timer = 0;
    progress.hidden = true;
    told.textContent = "";
    card.querySelector(".has-error input, .has-error select, form button").focus();
  });
  card.addEventListener("htmx:sendAbort", () => fail("Cancelled: nothing of it was taken over."));
  card.addEventListener("htmx:sendError", () => fail(sent
    ? "The connection ended before the answer came. The server may go on reading: load the page again to see, or upload the same again, which then leads to it."
    : "The connection ended while it was sent. Nothing was taken over: upload it again."));
  card.addEventListener("htmx:responseError", ({ detail }) => fail(refusal(detail.xhr.status)));

  // Files may be dropped anywhere on the card. One that is too large is known before it is sent.
  card.addEventListener("dragover", (event) => event.preventDefault());
  card.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    const field = card.querySelector("[type=file]");
    field.files = event.dataTransfer.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });
  card.addEventListener("change", ({ target }) => {
    if (target.type !== "file") return;
    const large = [...target.files].find((file) => file.size > target.dataset.largest);
    target.setCustomValidity(large ? `${large.name} has ${mb(large.size)} MB. One file may have ${mb(target.dataset.largest)} MB.` : "");
    target.reportValidity();
  });
})();
