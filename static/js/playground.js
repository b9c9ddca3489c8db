// The playground: one prompt to one to four models at once, through the gateway, streamed.
// The token is fetched when it is needed and kept in memory only; the gateway governs each run like any call.
(() => {
  const root = document.querySelector("#pg");
  if (!root) return;
  const data = JSON.parse(document.querySelector("#pg-data").textContent);
  const $ = (selector, from = document) => from.querySelector(selector);
  const csrf = JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];
  const columns = [...root.querySelectorAll(".pg-col")].map((element) => ({ element, model: element.dataset.model, stop: null }));
  let session = null;
  let turn = 0; // a newer run makes what an older one still says worthless

  document.addEventListener("change", (event) => { if (event.target.matches("[data-submits]")) event.target.form.requestSubmit(); });

  // Numbers as everywhere else: two significant digits below one cent, never $0.00 for something unknown.
  const money = (usd) => usd >= 0.01 || usd === 0 ? `$${usd.toFixed(2)}` : `$${usd.toFixed(Math.min(12, 1 - Math.floor(Math.log10(usd))))}`;
  const duration = (ms) => ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;

  // All columns wait for one answer: they start at the same moment.
  let asking = null;
  function token() {
    if (session && Date.parse(session.expires_at) - Date.now() > 60_000) return session.token;
    asking ??= openSession().finally(() => { asking = null; });
    return asking;
  }

  async function openSession() {
    const answer = await fetch(root.dataset.sessionUrl, {
      method: "POST", headers: { "X-CSRFToken": csrf }, body: new URLSearchParams({ project: root.dataset.project }),
    });
    if (answer.redirected || !(answer.headers.get("content-type") || "").includes("json")) throw new Error("You are signed out. Reload the page to sign in; copy your prompt first.");
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail);
    session = body;
    return session.token;
  }

  const places = [...root.querySelectorAll("[data-variable]")];
  const variables = () => Object.fromEntries(places.map((field) => [field.dataset.variable, field.value]));

  // Parameters begin with what a run gets anyway, the prompt's or the model's default: what was not changed is not sent.
  const settings = [...root.querySelectorAll("[data-parameter]")];
  const isChanged = (field) => field.value.trim() !== field.dataset.start && (field.value.trim() === "" || field.dataset.start === "" || Number(field.value) !== Number(field.dataset.start));
  const isSet = (name) => settings.some((field) => field.dataset.parameter === name && field.value.trim() !== "" && isChanged(field));
  const unchanged = (field, model) => field.dataset.sentTo?.split(" ").includes(model) ? field.dataset.sent : "";
  function tellOrigins() {
    $("#pg-values").textContent = settings.filter((field) => field.value.trim()).map((field) => `${field.labels[0].textContent} ${field.value.trim()}`).join(", ");
    for (const field of settings) {
      const { start, rival } = field.dataset, said = $(`#${field.id}-from`), origin = said.dataset.origin, before = start ? `, ${origin} is ${start}` : "";
      if (!isChanged(field)) said.textContent = rival && isSet(rival) ? `left to the provider, as ${rival.replace("_", " ")} is set` : origin;
      else if (field.value.trim() !== "") said.textContent = `for this run${before}`;
      else said.textContent = "sent" in field.dataset ? "not set" : `empty: ${origin}, ${start}, holds`;
    }
  }
  root.addEventListener("input", tellOrigins);

  // A prompt of the library comes first: by name where the gateway serves that version, else as its messages, with the variables put in their places.
  function request(model) {
    const system = $("#pg-system").value.trim(), text = $("#pg-prompt").value, prompt = data.prompt;
    const messages = [...(system ? [{ role: "system", content: system }] : []), ...(prompt && !text.trim() ? [] : [{ role: "user", content: text }])];
    const parameters = Object.fromEntries(settings.map((field) => [field, isChanged(field) ? field.value.trim() : unchanged(field, model)])
      .filter(([, value]) => value !== "").map(([field, value]) => [field.dataset.field, field.type === "number" ? Number(value) : value]));
    if (!prompt) return { model, messages, ...parameters };
    const given = variables();
    if (prompt.served) return { model, prompt: { id: prompt.id, version: prompt.version, variables: given }, messages, ...parameters };
    const filled = prompt.messages.map((message) => ({ ...message, content: message.content.replace(/\{\{\s*([A-Za-z_]\w*)\s*\}\}/g, (place, name) => given[name] ?? place) }));
    return { model, messages: [...filled, ...messages], ...prompt.parameters, ...parameters };
  }

  function show(column, name, text) { $(`[data-${name}]`, column.element).textContent = text; }

  function cost(model, usage) {
    const price = data.models[model];
    if (!usage || price.input_per_million === null) return null;
    return (usage.prompt_tokens * Number(price.input_per_million) + (usage.completion_tokens || 0) * Number(price.output_per_million)) / 1e6;
  }

  function fail(column, message, code, requestId) {
    const out = $("[data-out]", column.element);
    column.failed = true;
    const note = document.createElement("p");
    note.className = "pg-error";
    note.textContent = message;
    if (code || requestId) {
      const detail = document.createElement("span");
      detail.className = "gh-mono gh-small";
      detail.textContent = ` ${[code, requestId && `request ${requestId}`].filter(Boolean).join(" · ")}`;
      note.append(detail);
    }
    if (!out.dataset.said) out.replaceChildren();
    out.append(note);
  }

  // Yields the JSON of each server-sent event; ends at [DONE] or with the stream.
  async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    for (;;) {
      const { value, done } = await reader.read();
      buffer += value || "";
      const lines = buffer.split("\n");
      buffer = done ? "" : lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const text = line.slice(5).trim();
        if (text === "[DONE]") return;
        if (text) yield JSON.parse(text);
      }
      if (done) return;
    }
  }

  async function run(column, mine) {
    const out = $("[data-out]", column.element);
    const stop = $("[data-stop]", column.element);
    const abort = new AbortController();
    column.stop = () => abort.abort();
    column.result = null;
    column.failed = false;
    out.replaceChildren();
    delete out.dataset.said;
    out.setAttribute("aria-busy", "true");
    stop.hidden = false;
    for (const name of ["ttft", "total", "tokens", "cost"]) show(column, name, "—");
    for (const name of ["speed", "meta", "record"]) show(column, name, "");
    $("[data-found]", column.element).hidden = true;
    column.element.querySelectorAll(".best").forEach((element) => element.classList.remove("best"));
    const started = performance.now();
    let first = null, usage = null, pieces = 0, requestId = "", overhead = "", ended = "Total";
    const ticking = setInterval(() => { show(column, "total", duration(performance.now() - started)); }, 100);
    $("[data-total-label]", column.element).textContent = "So far";
    try {
      const answer = await fetch("/v1/chat/completions", {
        method: "POST", signal: abort.signal,
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${await token()}`, "X-Gatehouse-Agent": "playground" },
        body: JSON.stringify({ ...request(column.model), stream: true, stream_options: { include_usage: true } }),
      });
      requestId = answer.headers.get("x-request-id") || "";
      overhead = answer.headers.get("x-gatehouse-overhead-ms") || "";
      if (!answer.ok) {
        const text = await answer.text();
        let error = {};
        try { error = JSON.parse(text).error || {}; } catch { /* not in our shape: a proxy in between */ }
        if (answer.status === 401) session = null;
        fail(column, error.message || `The gateway answered ${answer.status}.`, error.code, error.request_id || requestId);
        return;
      }
      const text = document.createTextNode("");
      out.append(text);
      for await (const event of events(answer.body)) {
        if (mine !== turn) return;
        if (event.error) { fail(column, event.error.message, event.error.code, event.error.request_id || requestId); break; }
        const piece = event.choices?.[0]?.delta?.content;
        if (piece) {
          if (first === null) { first = performance.now() - started; show(column, "ttft", duration(first)); out.dataset.said = "1"; }
          pieces += 1;
          text.appendData(piece);
          out.scrollTop = out.scrollHeight;
        }
        if (event.usage) usage = event.usage;
      }
      if (first === null && !usage) fail(column, "The model answered without text.", "", requestId);
    } catch (error) {
      if (error.name === "AbortError") { ended = "Stopped at"; if (!out.dataset.said) fail(column, "Stopped before the first word.", "", ""); }
      else fail(column, error instanceof TypeError ? "The gateway can't be reached. Is it running?" : error.message, "", requestId);
    } finally {
      clearInterval(ticking);
      if (mine === turn) {
        const total = performance.now() - started;
        $("[data-total-label]", column.element).textContent = ended;
        show(column, "total", duration(total));
        out.removeAttribute("aria-busy");
        stop.hidden = true;
        column.stop = null;
        if (usage) {
          const usd = cost(column.model, usage);
          show(column, "tokens", `${usage.prompt_tokens} / ${usage.completion_tokens ?? 0}`);
          show(column, "cost", usd === null ? "unpriced" : money(usd));
          if (first !== null && total > first) show(column, "speed", `${Math.round((usage.completion_tokens || pieces) / ((total - first) / 1000))} tokens/s`);
          column.result = { ttft: first, total, cost: usd };
        }
        show(column, "meta", [requestId && `request ${requestId}`, overhead && `${overhead} ms in the gateway`].filter(Boolean).join(" · "));
        if (requestId) tell(column, requestId, mine);
      }
    }
  }

  // What the gateway recorded of a run: it is there a second or two after the end. Says what guardrails found, and the exact cost.
  async function tell(column, requestId, mine) {
    show(column, "record", "· being recorded…");
    for (const wait of [700, 700, 1000, 1500, 2500, 4000]) {
      await new Promise((done) => setTimeout(done, wait));
      if (mine !== turn) return;
      let answer = null;
      try { answer = await fetch(data.run_url.replace("REQUEST", encodeURIComponent(requestId)), { headers: { Accept: "application/json" } }); } catch { continue; }
      if (mine !== turn) return;
      if (answer.status === 202) continue;
      if (!answer.ok || answer.redirected) break;
      return showRecord(column, await answer.json());
    }
    if (mine === turn) show(column, "record", "· not recorded yet");
  }

  const VERDICTS = { redacted: "replaced", flagged: "noted", guardrail_blocked: "stopped the call" };
  function showRecord(column, record) {
    const list = $("[data-found]", column.element);
    list.replaceChildren(...record.findings.map((finding) => {
      const item = document.createElement("li");
      const where = finding.direction === "output" ? "in the answer" : "in the prompt";
      item.className = `gh-chip ${finding.verdict === "guardrail_blocked" ? "is-fail" : "is-waived"}`;
      item.textContent = `${finding.guardrail}: ${finding.found || "over its limit"} ${where}, ${VERDICTS[finding.verdict] || finding.verdict}`;
      return item;
    }));
    list.hidden = !record.findings.length;
    const said = [
      record.provider && `${column.failed ? "asked of" : "answered by"} ${record.provider}`,
      record.is_cached && "from the cache",
      record.failovers && `after ${record.failovers} ${record.failovers === 1 ? "failover" : "failovers"}`,
      !record.guardrails ? "no guardrail applies" : record.findings.length ? "" : `${record.guardrails} ${record.guardrails === 1 ? "guardrail" : "guardrails"} found nothing`,
    ].filter(Boolean).join(", ");
    const link = document.createElement("a");
    link.href = record.url;
    link.textContent = "Its road";
    $("[data-record]", column.element).replaceChildren(`· ${said} · `, link);
    const figure = $("[data-cost]", column.element);
    figure.firstChild.textContent = record.cost_usd === null ? "unpriced" : money(Number(record.cost_usd));
    figure.title = record.cost_usd === null ? "This call has no price" : `${record.cost_usd} USD, as recorded`;
    if (column.result) column.result.cost = record.cost_usd === null ? null : Number(record.cost_usd);
    if (columns.every((one) => one.stop === null)) mark();
  }

  // The best figure of each kind is marked, in words too.
  function mark() {
    if (columns.length < 2) return;
    root.querySelectorAll(".best").forEach((element) => element.classList.remove("best"));
    for (const [name, words] of [["ttft", "fastest first token"], ["total", "fastest"], ["cost", "lowest cost"]]) {
      const known = columns.filter((column) => column.result && column.result[name] !== null);
      if (known.length < 2) continue;
      const best = known.reduce((a, b) => (b.result[name] < a.result[name] ? b : a));
      const figure = $(`[data-${name}]`, best.element);
      figure.classList.add("best");
      figure.title = `${words} of ${known.length}`;
    }
  }

  const stopAll = () => columns.forEach((column) => column.stop?.());

  $("#pg-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    stopAll();
    const mine = ++turn;
    $("#pg-state").textContent = `Running ${columns.length} ${columns.length === 1 ? "model" : "models"}…`;
    await Promise.allSettled(columns.map((column) => run(column, mine)));
    if (mine !== turn) return;
    mark();
    $("#pg-state").textContent = "Done.";
    $("#pg-run").firstChild.textContent = "Run again ";
  });
  columns.forEach((column) => $("[data-stop]", column.element).addEventListener("click", () => column.stop?.()));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $("#pg-form").requestSubmit(); }
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) stopAll();
  });

  // A link to the same run: models and project in the query; prompts and parameters behind the #, which browsers never send.
  const FIELDS = { system: "#pg-system", prompt: "#pg-prompt" };
  const SECRETS = [
    /\bgh[a-z]_[\w.-]{8,}/g, /\b(?:sk|pk|rk)[-_][\w-]{16,}/g, /\bxox[abprs]-[\w-]{10,}/g, /\b(?:AKIA|ASIA)[0-9A-Z]{16}\b/g, /\bAIza[\w-]{30,}/g,
    /\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g, /\bBearer\s+[\w.~+/=-]{16,}/gi, /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g,
  ];

  // Variables stand beside the other fields, under `{{name}}`, which no field is called.
  const fields = () => Object.fromEntries([
    ...Object.entries(FIELDS).map(([name, id]) => [name, $(id).value]), ...places.map((field) => [`{{${field.dataset.variable}}}`, field.value]),
    ...settings.filter(isChanged).map((field) => [field.dataset.parameter, field.value]),
  ]);

  function fill(run) {
    for (const [name, id] of Object.entries(FIELDS)) $(id).value = typeof run[name] === "string" ? run[name] : "";
    for (const field of places) { const value = run[`{{${field.dataset.variable}}}`]; field.value = typeof value === "string" ? value : ""; }
    for (const field of settings) if (typeof run[field.dataset.parameter] === "string") field.value = run[field.dataset.parameter];
    tellOrigins();
    if (run.system || settings.some(isChanged)) $("details.pg-sys").open = true;
  }

  // Another project, one model more or less: the page is opened anew, and what was written comes along, once and within this tab.
  const CARRIED = "gatehouse.playground";
  const carry = () => sessionStorage.setItem(CARRIED, JSON.stringify(fields()));
  document.addEventListener("submit", (event) => { if (event.target.matches("[data-carries]")) carry(); });
  document.addEventListener("click", (event) => { if (event.target.closest("a[data-carries]")) carry(); });
  const carried = sessionStorage.getItem(CARRIED);
  sessionStorage.removeItem(CARRIED);
  if (carried) fill(JSON.parse(carried));

  function shareLink() {
    let secrets = 0;
    const clean = (text) => SECRETS.reduce((left, pattern) => left.replace(pattern, () => { secrets += 1; return "[secret removed]"; }), text);
    const run = Object.fromEntries(Object.entries(fields()).map(([name, value]) => [name, clean(value)]).filter(([name, value]) => value !== "" || name === "max_tokens"));
    const bytes = new TextEncoder().encode(JSON.stringify(run));
    const packed = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
    const query = new URLSearchParams([...columns.map((column) => ["model", column.model]), ["project", root.dataset.project], ...(data.prompt ? [["prompt", `${data.prompt.id}@${data.prompt.version}`]] : [])]);
    return { url: `${location.origin}${location.pathname}?${query}#run=${packed}`, secrets };
  }

  function openLink() {
    if (carried) return;
    const packed = /^#run=([\w-]+)$/.exec(location.hash)?.[1];
    if (!packed) return;
    let run = null;
    try {
      run = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(atob(packed.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0))));
    } catch { /* cut off on its way: told below */ }
    if (run === null || typeof run !== "object") { $("#pg-state").textContent = "The link is damaged: its prompt can't be read."; return; }
    fill(run);
    $("#pg-state").textContent = "From a link. Nothing has run yet.";
  }
  openLink();

  $("#pg-share")?.addEventListener("click", async () => {
    const { url, secrets } = shareLink();
    if (url.length > 30_000) { $("#pg-state").textContent = "The prompt is too long for a link."; return; }
    await navigator.clipboard.writeText(url);
    $("#pg-state").textContent = `The link holds models, prompts and parameters, no key and no answer.${secrets ? ` ${secrets} ${secrets === 1 ? "secret was" : "secrets were"} left out.` : ""}`;
    const label = $("[data-share-label]");
    label.textContent = "Copied";
    setTimeout(() => { label.textContent = "Copy link"; }, 1500);
  });
  // The same run as code, for the chosen model.
  $("#pg-code-model")?.addEventListener("change", showCode);
  $("#pg-show-code")?.addEventListener("click", showCode);
  function showCode() {
    const body = request($("#pg-code-model")?.value || columns[0].model);
    const json = JSON.stringify(body, null, 2);
    const shell = json.replaceAll("'", "'\\''");
    const python = (value, indent) => value === null ? "None" : value === true ? "True" : value === false ? "False" : Array.isArray(value)
      ? `[\n${value.map((item) => `${indent}    ${python(item, indent + "    ")},\n`).join("")}${indent}]`
      : typeof value === "object" ? `{${Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${python(item, indent)}`).join(", ")}}` : JSON.stringify(value);
    const { prompt, ...ours } = body; // the SDK for Python takes only what it knows, and the rest as extra_body
    const named = Object.entries(prompt ? { ...ours, extra_body: { prompt } } : ours).map(([name, value]) => `    ${name}=${python(value, "    ")},\n`).join("");
    $("#pg-code-curl").textContent = `curl ${data.base_url}/v1/chat/completions \\\n  -H "Authorization: Bearer $GATEHOUSE_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${shell}'`;
    $("#pg-code-python").textContent = `import os\n\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${data.base_url}/v1", api_key=os.environ["GATEHOUSE_KEY"])\nanswer = client.chat.completions.create(\n${named})\nprint(answer.choices[0].message.content)`;
    $("#pg-code-javascript").textContent = `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${data.base_url}/v1", apiKey: process.env.GATEHOUSE_KEY });\nconst answer = await client.chat.completions.create(${json});\nconsole.log(answer.choices[0].message.content);`;
  }
})();
