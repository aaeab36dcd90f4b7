// Loads the page again every five seconds and puts what has changed in its place. Without it the page is complete, too.
"use strict";
(() => {
  const every = 5000;
  const parts = () => document.querySelectorAll("[data-live]");
  const button = document.getElementById("pause");
  const state = document.getElementById("live");
  const announcer = document.getElementById("announcer");
  const address = new URL(location.href);
  let paused = false, ended = false, seen = new Map();

  address.searchParams.delete("notice");
  if (address.href !== location.href) history.replaceState(null, "", address);
  if (!parts().length || !button) return;
  const here = document.querySelector("nav [aria-current]");
  if (here) here.scrollIntoView({block: "nearest", inline: "nearest"});
  for (const part of parts()) seen.set(part.id, part.innerHTML);

  const inUse = part => {
    const selection = getSelection();
    const selects = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
    return selects || part.querySelector(":active, input:focus, select:focus");
  };
  const nameOf = element => element.id || [element.tagName, element.getAttribute("href"), element.dataset.key || element.textContent].join("|");

  function replace(part, fresh) {
    const open = new Map(Array.from(part.querySelectorAll("details[id]"), each => [each.id, each.open]));
    const scrolled = new Map(Array.from(part.querySelectorAll("[id]"), each => [each.id, [each.scrollLeft, each.scrollTop]]));
    const focused = part.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    for (const each of fresh.querySelectorAll("details[id]")) if (open.has(each.id)) each.open = open.get(each.id);
    part.replaceChildren(...fresh.childNodes);
    for (const [id, [left, top]] of scrolled) {
      const again = left || top ? document.getElementById(id) : null;
      if (again) again.scrollTo(left, top);
    }
    if (focused !== null) {
      const again = Array.from(part.querySelectorAll("a, button, summary, input, select, [tabindex]")).find(each => nameOf(each) === focused);
      if (again) again.focus({preventScroll: true});
    }
  }

  function announce(fresh) {
    const now = document.querySelector("[data-announce]"), next = fresh.querySelector("[data-announce]");
    if (!now || !next || now.dataset.codes === next.dataset.codes) return;
    now.dataset.codes = next.dataset.codes;
    announcer.textContent = next.dataset.announce;
  }

  async function update() {
    if (paused || ended || document.hidden) return;
    try {
      const response = await fetch(address, {redirect: "manual", credentials: "same-origin"});
      if (response.type === "opaqueredirect") {
        ended = true;
        state.textContent = "The session has ended: load the page again to sign in.";
        return;
      }
      if (!response.ok) throw new Error(response.status);
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      if (paused) return;
      announce(fresh);
      for (const part of parts()) {
        const other = fresh.getElementById(part.id);
        if (!other || other.innerHTML === seen.get(part.id) || inUse(part)) continue;
        seen.set(part.id, other.innerHTML);
        replace(part, other);
      }
      document.title = fresh.title;
      state.textContent = "Updates every 5 seconds.";
    } catch {
      state.textContent = "No answer: what you see is old. Trying again.";
    }
  }

  button.hidden = false;
  state.textContent = "Updates every 5 seconds.";
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    state.textContent = paused ? "Updates are paused." : "Updates every 5 seconds.";
    update();
  });
  document.addEventListener("visibilitychange", update);
  setInterval(update, every);
})();
