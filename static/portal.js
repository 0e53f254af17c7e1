"use strict";
// The theme: what was chosen here before (Django's admin keeps it under the same name), else what the system prefers. Before the
// first paint, so nothing flashes.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = "auto";
  try { chosen = localStorage.getItem("theme") || "auto"; } catch { /* only for this page, then */ }
  const show = () => {
    root.dataset.bsTheme = chosen === "auto" ? (dark.matches ? "dark" : "light") : chosen;
    for (const button of document.querySelectorAll("#theme button")) button.setAttribute("aria-pressed", button.value === chosen);
  };
  show();
  dark.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", () => {
    const group = document.getElementById("theme");
    group.hidden = false;
    group.addEventListener("click", (event) => {
      chosen = event.target.value || chosen;
      try { localStorage.setItem("theme", chosen); } catch { /* only for this page, then */ }
      show();
    });
    show();
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

// Passkeys: the browser is asked when the button is pressed, and what it answers is sent by the page's own form.
document.addEventListener("DOMContentLoaded", () => {
  const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const listed = (found) => found?.map((one) => ({ ...one, id: bytes(one.id) }));
  const create = async ({ publicKey }) => {
    const made = await navigator.credentials.create({ publicKey: {
      ...publicKey, challenge: bytes(publicKey.challenge), user: { ...publicKey.user, id: bytes(publicKey.user.id) },
      excludeCredentials: listed(publicKey.excludeCredentials),
    } });
    const { attestationObject, clientDataJSON } = made.response;
    return [made, { attestationObject: text(attestationObject), clientDataJSON: text(clientDataJSON), transports: made.response.getTransports() }];
  };
  const get = async ({ publicKey }) => {
    const used = await navigator.credentials.get({ publicKey: {
      ...publicKey, challenge: bytes(publicKey.challenge), allowCredentials: listed(publicKey.allowCredentials),
    } });
    const { authenticatorData, clientDataJSON, signature, userHandle } = used.response;
    return [used, { authenticatorData: text(authenticatorData), clientDataJSON: text(clientDataJSON), signature: text(signature), userHandle: userHandle && text(userHandle) }];
  };
  const options = async (form) => {
    if (form.dataset.options) return JSON.parse(form.dataset.options);
    const answer = await fetch(form.action, { method: "POST", body: new FormData(form) });
    if (!answer.ok) throw Object.assign(new Error(), { name: answer.status === 429 ? "TooMany" : "Refused" });
    return answer.json();
  };
  for (const form of window.PublicKeyCredential ? document.querySelectorAll("[data-passkey]") : []) {
    form.hidden = false;
    document.querySelector("[data-no-passkey]")?.setAttribute("hidden", "");
    form.querySelector("button").addEventListener("click", async () => {
      const said = form.querySelector("[role=alert][hidden], [role=alert].text-danger");
      said.hidden = true;
      try {
        const asked = await options(form);
        const [credential, response] = await (form.dataset.passkey === "create" ? create(asked.creation_options) : get(asked.request_options));
        form.elements.credential.value = JSON.stringify({
          id: credential.id, rawId: text(credential.rawId), type: credential.type, response,
          clientExtensionResults: credential.getClientExtensionResults(), authenticatorAttachment: credential.authenticatorAttachment,
        });
        form.submit();
      } catch (error) {
        said.textContent = {
          SecurityError: "Passkeys do not belong to this address. Open the portal by its own name; on this machine that is localhost.",
          TooMany: "Too many sign-ins were begun from your address: try again in a quarter of an hour.",
          Refused: "The portal did not answer as it should: reload the page.",
        }[error.name] || "No passkey was used: it was cancelled, or this device has none for you here.";
        said.hidden = false;
      }
    });
  }
});

// Menus close by Escape, and when one goes on elsewhere. The search is reached by "/", its finds by the arrow keys.
document.addEventListener("DOMContentLoaded", () => {
  const search = document.getElementById("search");
  const found = document.getElementById("search-found");
  const close = (but) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(but)) menu.open = false;
    if (found && !found.parentElement.contains(but)) found.replaceChildren();
  };
  document.addEventListener("click", (event) => close(event.target));
  document.addEventListener("focusin", (event) => close(event.target));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      const within = document.activeElement.closest("details.menu[open], #search-found");
      close(null);
      if (within) (within.querySelector("summary") || search).focus();
    }
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "/" && search && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found && found.parentElement.contains(event.target)) {
      const stops = [search, ...found.querySelectorAll("a")];
      const next = stops[stops.indexOf(event.target) + step];
      if (next) { event.preventDefault(); next.focus(); }
    }
  });
});
