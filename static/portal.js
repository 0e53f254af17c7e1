"use strict";
// The theme: what was chosen here before, else what the system prefers. Before the first paint, so nothing flashes.
(() => {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const wanted = () => stored() || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.bsTheme = wanted();
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => { button.textContent = root.dataset.bsTheme === "dark" ? "Light theme" : "Dark theme"; };
    button.hidden = false;
    label();
    button.addEventListener("click", () => {
      root.dataset.bsTheme = root.dataset.bsTheme === "dark" ? "light" : "dark";
      try { localStorage.setItem("theme", root.dataset.bsTheme); } catch { /* only for this page, then */ }
      label();
    });
  });
})();

// Times are told in this browser's zone, unless the account chose another: the server learns it here.
try {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone) document.cookie = `time_zone=${zone}; Path=/; Max-Age=31536000; SameSite=Lax${location.protocol === "https:" ? "; Secure" : ""}`;
} catch { /* UTC, then */ }

// A request of htmx's that failed changes nothing on the page: say so where screen readers listen.
(() => {
  const sentences = {
    403: "You may not change this, or no longer. Reload the page.",
    404: "This is no longer here. Reload the page.",
    429: "Too many requests: try again in a while.",
  };
  const say = (text) => {
    const said = document.getElementById("said");
    const alert = document.createElement("div");
    alert.className = "alert alert-danger";
    alert.setAttribute("role", "alert");
    alert.textContent = text;
    said.replaceChildren(alert);
    said.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("htmx:responseError", (event) => {
    const { status, responseText } = event.detail.xhr;
    // The error pages say it best; what comes from elsewhere (a proxy, say) is not quoted.
    const page = new DOMParser().parseFromString(responseText, "text/html").querySelector("#main .empty");
    const told = page && [".empty-title", ".empty-subtitle"].map((part) => page.querySelector(part)?.textContent.trim());
    say(told ? `${told[0]}. ${told[1] || ""}` : sentences[status] || "Something went wrong. Whether anything was done is not certain: reload the page.");
  });
  document.addEventListener("htmx:sendError", () => say("The portal was not reached: whether anything was done is not certain. Reload the page."));
  document.addEventListener("htmx:timeout", () => say("The portal did not answer in time: whether anything was done is not certain. Reload the page."));
})();

// Copying what stands in a block. Where the browser keeps the clipboard from a page (plain http), the text is selected instead.
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const block = document.getElementById(button.dataset.copy);
      const status = button.parentElement.querySelector("[role=status]");
      try {
        await navigator.clipboard.writeText(block.textContent);
        status.textContent = "Copied.";
      } catch {
        getSelection().selectAllChildren(block);
        status.textContent = "Selected: copy it with the keyboard.";
      }
    });
  }
});

// What follows the record rests while nobody sees it. (htmx's own conditions need eval.)
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.matches("[data-live]")) event.preventDefault();
});
