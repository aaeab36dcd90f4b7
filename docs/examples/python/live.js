// Replaces what has changed, every two seconds, but not what is being typed. Without JavaScript the page reloads every few seconds.
setInterval(async () => {
  const answer = document.hidden ? null : await fetch("/").catch(() => null);
  if (!answer?.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  const shown = document.querySelector("main");
  const [key, title] = ["key", "title"].map((name) => shown.querySelector(`[name=${name}]`));
  fresh.querySelector("[name=key]")?.setAttribute("value", key?.value ?? crypto.randomUUID());
  if (fresh.innerHTML === shown.innerHTML) return;
  const focused = document.activeElement?.id;
  if (title && fresh.querySelector("[name=title]")) fresh.querySelector("[name=title]").value = title.value;
  shown.replaceWith(fresh);
  if (focused) document.getElementById(focused)?.focus();
}, 2000);
