/* What pages do beyond HTML and htmx's attributes. Everything here is an addition: without
   JavaScript pages still list, preview, download and delete. */
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const on = (name, act) => document.addEventListener(name, act);
  const click = (selector, act) =>
    on("click", (event) => {
      const found = event.target.closest?.(selector);
      if (found) act(found, event);
    });

  // --- live cards -------------------------------------------------------------------------------

  const LOOK_EVERY = 2000; // milliseconds
  const open = new Set(); // elements whose socket is open
  let awaySince = Date.now();

  const cards = () => all(".live[data-active=yes]");

  /* A card is covered while an open socket was asked to follow its SAE, or its job. */
  const covered = (card) => {
    const socket = card.closest("[ws-connect]");
    return open.has(socket) && socket.getAttribute("ws-connect").includes(card.dataset.sae ?? card.dataset.job ?? card.dataset.publication);
  };

  on("htmx:wsOpen", (event) => open.add(event.target));
  on("htmx:wsClose", (event) => {
    if (open.delete(event.target)) awaySince = Date.now();
  });

  setInterval(() => {
    const alone = cards().filter((card) => !covered(card));
    const lost = alone.some((card) => card.closest("[ws-connect]"));
    // Connecting takes a moment on every page; only a longer absence is worth a word.
    document.getElementById("connection").hidden = !lost || Date.now() - awaySince < LOOK_EVERY;
    if (!document.hidden) alone.forEach((card) => htmx.trigger(card, "mistudio:look"));
  }, LOOK_EVERY);

  /* Socket and polling may overtake each other: what is shown never goes back in time. */
  const isOlder = (offered, shown) => {
    const [bornThen, bornNow] = [Number(offered.dataset.born), Number(shown.dataset.born)];
    if (bornThen !== bornNow) return bornThen < bornNow; // an earlier job
    return Number(offered.dataset.version) < Number(shown.dataset.version);
  };

  on("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    const offered = fragment.querySelector?.(".live");
    if (offered && target.matches(".live") && isOlder(offered, target)) event.preventDefault();
  });

  on("htmx:beforeSwap", (event) => {
    const { detail } = event;
    const { xhr, target } = detail;
    if (xhr.responseURL && new URL(xhr.responseURL).pathname !== path(detail)) {
      event.preventDefault(); // the answer came from elsewhere: from the sign-in page
      location.reload();
    } else if (target.matches(".live") && xhr.status < 400) {
      const page = new DOMParser().parseFromString(detail.serverResponse, "text/html");
      const offered = page.querySelector(".live");
      if (!offered || isOlder(offered, target)) detail.shouldSwap = false;
    }
  });
  const path = (detail) => new URL(detail.pathInfo.requestPath, location.href).pathname;

  on("htmx:responseError", (event) => {
    const card = event.target.closest?.(".live");
    if (card && event.detail.xhr.status === 404) card.dataset.active = "no"; // deleted: no more looks
  });

  /* The server words an announcement anew when a state changes and at each quarter of the way. */
  const changed = (card, attribute) => {
    if (attribute === "data-announce")
      document.getElementById("announcer").textContent = card.dataset.announce;
    // From the second stage on there is more to show; of what is gone there is nothing to fetch.
    else if (!/looking$|^gone$/.test(card.dataset.phase))
      all("[data-refresh]").forEach((part) => htmx.trigger(part, "mistudio:refresh"));
  };
  new MutationObserver((changes) => {
    for (const { target, attributeName, oldValue } of changes)
      if (target.matches(".live") && target.getAttribute(attributeName) !== oldValue)
        changed(target, attributeName);
  }).observe(document.body, {
    subtree: true, attributes: true, attributeOldValue: true,
    attributeFilter: ["data-announce", "data-phase"],
  });

  // A morph must neither close what the user opened nor overwrite what is being typed, or newer.
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (node, offered) =>
    !(node === document.activeElement && node.matches("input, select, textarea"))
    && !(node.matches?.(".live") && offered.matches?.(".live") && isOlder(offered, node));
  Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
    !(name === "open" && node.matches("details, dialog"));

  // --- requests ---------------------------------------------------------------------------------

  /* Addresses carry only what differs from the page as it opens. */
  on("htmx:configRequest", (event) => {
    if (event.target.closest?.("[data-keeps-choice], #choose .paging"))
      chosen().forEach((box) => event.detail.formData.append("sae", box.value));
    if (!event.target.matches?.(".filters")) return;
    const { formData } = event.detail;
    for (const [name, value] of [...formData]) if (!value || (name === "sort" && value === "newest")) formData.delete(name);
  });

  const problem = () => document.getElementById("problem");
  on("htmx:beforeRequest", (event) => {
    if (!event.target.matches(".live, .polls")) problem().replaceChildren();
  });
  on("htmx:afterSwap", (event) => {
    if (event.target === problem()) problem().scrollIntoView({ block: "center" });
  });
  on("htmx:sendError", (event) => {
    if (event.target.matches(".live, .polls")) return; // its next look comes soon
    const text = document.createElement("p");
    text.className = "notice error";
    text.textContent = "The server cannot be reached. Check that it runs, then try again.";
    problem().replaceChildren(text);
  });

  // --- dialogs ----------------------------------------------------------------------------------

  /* A fetched dialog opens at once and leaves the page when it closes. The browser itself closes it
     on Escape and gives the focus back to what asked for it, unless the page was renewed meanwhile. */
  on("htmx:afterSwap", (event) => {
    const dialog = document.querySelector("dialog[data-show]:not([open])");
    if (!dialog) return;
    const { path } = event.detail.requestConfig;
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (document.activeElement === document.body) document.querySelector(`[hx-get="${path}"]`)?.focus();
    });
    dialog.showModal();
  });
  click("[data-close]", (button, event) => {
    const dialog = button.closest("dialog");
    if (dialog) event.preventDefault();
    dialog?.close();
  });
  click("dialog", (dialog, event) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    const inside = event.clientX >= left && event.clientX <= right
      && event.clientY >= top && event.clientY <= bottom;
    if (event.target === dialog && !inside) dialog.close(); // the backdrop
  });
  /* Browsers older than the `command` attribute. */
  if (!("commandForElement" in HTMLButtonElement.prototype))
    click("[commandfor]", (button) => {
      const dialog = document.getElementById(button.getAttribute("commandfor"));
      if (button.getAttribute("command") === "show-modal") dialog.showModal();
      else dialog.close();
    });

  // --- small conveniences -----------------------------------------------------------------------

  on("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, dialog, [contenteditable]");
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing) return;
    const field = document.querySelector("[data-search]");
    if (!field) return;
    event.preventDefault();
    field.focus();
    field.select();
  });

  const say = (button, done) => {
    const label = button.querySelector("span");
    const before = label.dataset.before ??= label.textContent;
    label.textContent = done ? "Copied" : "Copying is not allowed here";
    button.classList.toggle("copied", done);
    document.getElementById("announcer").textContent = label.textContent;
    setTimeout(() => { label.textContent = before; button.classList.remove("copied"); }, 1600);
  };
  const from = (id) => document.getElementById(id).value ?? document.getElementById(id).textContent;
  click("[data-copy], [data-copy-text]", (button) => {
    const text = button.dataset.copyText ?? from(button.dataset.copy);
    // Browsers offer the clipboard to https and to localhost only.
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => say(button, true), () => say(button, false));
    else say(button, false);
  });

  click("[data-reveal]", (button) => {
    const field = document.getElementById(button.dataset.reveal);
    const shown = field.type === "password";
    field.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", shown);
  });

  /* A box in the head of a table ticks all of its page. */
  on("change", (event) => {
    if (!event.target.matches("[data-tick-all]")) return;
    const boxes = event.target.closest("table").querySelectorAll("tbody [type=checkbox]");
    boxes.forEach((box) => { box.checked = event.target.checked; });
  });

  /* The SAEs that go on to be published: those ticked here, and those ticked on other pages. */
  const chosen = () => all("#choose [name=sae]:is(:checked, [type=hidden])");
  const count = () => {
    const told = document.querySelector("[data-chosen]"), many = chosen().length;
    if (told) told.textContent = many ? `Continue with ${many} selected` : "Continue with the selected";
  };
  on("change", count);
  on("htmx:afterSwap", count);

  /* What was rehearsed is what is published: with another form it has to be rehearsed again. */
  on("input", (event) => {
    if (!event.target.closest("[data-wish]")) return;
    all(".stale").forEach((notice) => { notice.hidden = false; });
    all(".confirm-form [type=submit]").forEach((button) => { button.disabled = true; });
  });

  /* What is to be corrected may be out of sight within a long list. The focus comes after this. */
  on("htmx:afterSwap", () => {
    document.querySelector(".publish-form [aria-invalid=true]")?.scrollIntoView({ block: "nearest" });
  });

  const unfold = (id) => {
    const part = document.getElementById(id);
    if (!part?.matches("details")) return;
    part.open = true;
    part.querySelector("input:not([type=hidden])")?.focus();
  };
  click("[data-open]", (link, event) => { event.preventDefault(); unfold(link.dataset.open); });
  if (location.hash) unfold(location.hash.slice(1));

  const closeMenus = (except) =>
    all("details.menu[open]").forEach((menu) => { if (!menu.contains(except)) menu.open = false; });
  on("click", (event) => closeMenus(event.target));
  on("keydown", (event) => {
    const menu = document.querySelector("details.menu[open]");
    if (event.key !== "Escape" || !menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  // --- the page Activity ------------------------------------------------------------------------

  const POLL_EVERY = 5000; // what waits further behind, and jobs that are new, come by asking
  setInterval(() => {
    if (!document.hidden) all("[data-poll]").forEach((part) => htmx.trigger(part, "mistudio:refresh"));
  }, POLL_EVERY);

  /* A row may have left the page while news of it was on its way. */
  on("htmx:wsBeforeMessage", (event) => {
    const [, id] = / id="([\w-]+)"/.exec(event.detail.message) ?? [];
    if (id && !document.getElementById(id)) event.preventDefault();
  });

  on("mistudio:said", (event) => {
    document.getElementById("announcer").textContent = event.detail.said;
  });

  on("mistudio:steered", (event) => {
    document.querySelector("dialog[open]")?.close();
    const place = document.getElementById("said");
    place.hidden = false;
    place.textContent = document.getElementById("announcer").textContent = event.detail.said;
    all("[data-poll]").forEach((part) => htmx.trigger(part, "mistudio:refresh"));
  });

  /* A row that changes or moves keeps the focus: on the same place, or on the row's next one. */
  let focused = null;
  on("focusin", ({ target }) => { focused = target.closest(".job, .activity-tools, [data-publication]") && target.id; });
  const refocus = () => {
    if (!focused || document.activeElement !== document.body) return;
    const row = focused.replace(/-\w+$/, "");
    (document.getElementById(focused) ?? document.querySelector(`[id="${row}"] :is(a, button)`))?.focus();
  };
  on("htmx:afterSwap", refocus);
  on("htmx:oobAfterSwap", refocus);
})();
