// Replaces what has changed, every two seconds. Without JavaScript the page reloads every few seconds.
setInterval(async () => {
  const answer = document.hidden ? null : await fetch("/").catch(() => null);
  if (!answer?.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  const shown = document.querySelector("main");
  if (fresh.innerHTML === shown.innerHTML) return;
  const focused = document.activeElement?.id;
  shown.replaceWith(fresh);
  if (focused) document.getElementById(focused)?.focus();
}, 2000);
