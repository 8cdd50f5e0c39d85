// What the page does where scripts run: it asks for itself again and puts new figures in place of the old ones, and asks
// "is it meant?" in a dialog. Whatever it shows was made by the server, as text; nothing is put together here.
"use strict";

(() => {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const EVERY = calm ? 10000 : 2000; // milliseconds
  const SLOWEST = 15000;
  const live = "live" in document.body.dataset;
  const recovering = "recover" in document.body.dataset;
  const stale = document.getElementById("stale");
  const said = document.getElementById("said");
  const pulse = document.getElementById("pulse");
  let wanted = true, timer = 0, pause = EVERY, away = false, asking = null;

  async function load(address) {
    asking = new AbortController();
    const options = { credentials: "same-origin", redirect: "error", signal: asking.signal };
    const response = await fetch(address, options);
    const text = await response.text();
    return { status: response.status, page: new DOMParser().parseFromString(text, "text/html") };
  }

  // Makes `old` like `fresh`, and touches only what differs: focus and selection stay where they are.
  function morph(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(document.importNode(fresh, true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.data = fresh.data;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const before = [...old.childNodes], after = [...fresh.childNodes];
    after.forEach((node, index) => {
      if (index < before.length) morph(before[index], node);
      else old.append(document.importNode(node, true));
    });
    before.slice(after.length).forEach((node) => node.remove());
  }

  const watched = () => new Map([...document.querySelectorAll("[data-say]")].map((e) => [e.dataset.say, e.textContent.trim()]));

  function update(page) {
    const before = watched();
    for (const old of document.querySelectorAll("[data-morph]")) {
      const fresh = page.getElementById(old.id);
      if (fresh) morph(old, fresh);
    }
    const news = [...watched()].filter(([what, count]) => before.has(what) && before.get(what) !== count);
    if (news.length) said.textContent = news.map(([what, count]) => `${what}: ${count}`).join(". ");
  }

  function tell(text) {
    if (stale.textContent !== text) stale.textContent = text;
    stale.hidden = !text;
  }

  async function look() {
    try {
      const { status, page } = await load(location.href);
      if (status === 401) {
        tell("Your session has ended. Load this page again to sign in.");
        wanted = false;
        return show();
      }
      if (status !== 200) throw new Error("away");
      if (recovering) return location.reload();
      if (away) said.textContent = "Redis is back.";
      away = false;
      pause = EVERY;
      tell("");
      update(page);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!away && !recovering) tell(`The gateway or its Redis is away: these figures are of ${new Date().toLocaleTimeString()}. Trying again.`);
      away = true;
      pause = Math.min(pause * 1.5, SLOWEST);
    }
    next();
  }

  function next() {
    clearTimeout(timer);
    if (wanted && !document.hidden) timer = setTimeout(look, pause);
  }

  function show() {
    pulse.hidden = !live;
    pulse.setAttribute("aria-pressed", String(wanted));
  }

  if (live || recovering) {
    show();
    pulse.addEventListener("click", () => {
      wanted = !wanted;
      show();
      if (wanted) look();
      else if (asking) asking.abort();
      if (!wanted) clearTimeout(timer);
    });
    document.addEventListener("visibilitychange", () => {
      clearTimeout(timer);
      if (!document.hidden && wanted) look();
    });
    next();
  }

  // --- Is it meant? The page that would ask becomes a dialog. ---

  async function ask(link) {
    const { status, page } = await load(link.href);
    const form = page.getElementById("ask");
    if (status !== 200 || !form) throw new Error("nothing to ask");
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-labelledby", "ask-title");
    dialog.append(document.importNode(form, true));
    document.body.append(dialog);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.querySelector("[data-cancel]").addEventListener("click", (event) => {
      event.preventDefault();
      dialog.close();
    });
    dialog.showModal();
  }

  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("a[data-ask]");
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    ask(link).catch(() => location.assign(link.href));
  });
})();
