/* Choosing many SAEs of a repository, a run or an upload: ranges, arrow keys, and what it all takes.

   Every box is a real one of the form #choose, so that without JavaScript one ticks and sends. With
   it, what is chosen outlives filters, pages and the other view, whose boxes come and go. */
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const one = (selector, inside = document) => inside.querySelector(selector);
  const BOX = "input[name=where]";
  const STOP = `${BOX}, .head:not([hidden])`; // what arrow keys go to
  const chosen = new Map(); // path -> bytes

  const boxes = (inside = document) => all(BOX, inside);
  const sizeOf = (box) => Number(box.dataset.size);
  const set = (box, on) => {
    box.checked = on;
    if (on) chosen.set(box.value, sizeOf(box));
    else chosen.delete(box.value);
  };

  // --- what it takes ----------------------------------------------------------------------------

  const UNITS = [["TB", 1e12, 2], ["GB", 1e9, 2], ["MB", 1e6, 1], ["kB", 1e3, 0], ["B", 1, 0]];
  const number = (value, digits = 0) =>
    value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const filesize = (bytes) => { // as the server writes it
    const [name, worth, digits] = UNITS.find(([, worth]) => bytes >= worth * 0.9995) ?? UNITS.at(-1);
    return `${number(bytes / worth, digits)} ${name}`;
  };
  const saes = (count) => `${number(count)} SAE${count === 1 ? "" : "s"}`;

  const need = (form) => {
    const sizes = [...chosen.values()];
    const fetched = sizes.reduce((sum, size) => sum + size, 0);
    const largest = sizes.reduce((most, size) => Math.max(most, size), 0);
    const needed = "keepsSource" in form.dataset ? 2 * fetched : fetched + largest;
    const left = Number(form.dataset.free) - needed;
    return { fetched, needed, left, short: Math.max(0, Number(form.dataset.margin) - left) };
  };

  const write = (form, name, text) => { one(`[data-number=${name}]`, form).textContent = text; };
  const showNeed = (form) => {
    const count = chosen.size, it = need(form), over = count > 0 && it.short > 0;
    write(form, "count", number(count));
    write(form, "fetched", filesize(it.fetched));
    write(form, "needed", filesize(it.needed));
    write(form, "left", it.left < 0 ? "none" : filesize(it.left));
    form.classList.toggle("over", over);
    const warning = one("[data-warning]", form), begin = one("[data-begin]", form);
    warning.hidden = !over;
    one("span", warning).textContent = over ? `${filesize(it.short)} too little. Choose fewer, or free some space.` : "";
    begin.disabled = !count;
    const verb = form.dataset.verb ?? "Download";
    one("span", begin).textContent = count ? `${verb} ${saes(count)}` : verb;
    tell(count ? `${saes(count)} selected, ${filesize(it.fetched)} to ${form.dataset.brings ?? "fetch"}.${over ? ` ${warning.textContent}` : ""}` : "Nothing selected.");
  };

  let said = "Nothing selected.", telling;
  const tell = (text) => { // once it stands still: a range changes with each key
    if (text === said) return;
    said = text;
    clearTimeout(telling);
    telling = setTimeout(() => { document.getElementById("announcer").textContent = text; }, 500);
  };

  /* A head is pressed where all below or beside it is chosen. */
  const showHeads = (table) => {
    for (const head of all(".head", table)) {
      const mine = under(head), on = mine.filter((box) => box.checked).length;
      head.setAttribute("aria-pressed", on === 0 ? "false" : on === mine.length ? "true" : "mixed");
      head.disabled = !mine.length;
    }
  };
  const showCount = (matrix) => {
    const on = all(`${BOX}:checked`, matrix).length;
    one("[data-count]", matrix).textContent = on ? `${number(on)} selected` : "";
  };

  let waiting = false;
  const show = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const form = one("#choose");
      if (!form) return;
      showNeed(form);
      all(".cross").forEach(showHeads);
      all("[data-matrix]").forEach(showCount);
      const page = one("[data-page]"), mine = boxes(one("[data-lines]") ?? document.createElement("i"));
      if (page) {
        page.checked = mine.length > 0 && mine.every((box) => box.checked);
        page.indeterminate = !page.checked && mine.some((box) => box.checked);
      }
      all("[data-choose=none]").forEach((button) => { button.disabled = !chosen.size; });
    });
  };

  // --- heads, all, none -------------------------------------------------------------------------

  const columnOf = (box) => box.closest("td").cellIndex - 1; // the first cell is the line's head
  const under = (head) => {
    const table = head.closest("table"), first = Number(head.dataset.first);
    if (!("first" in head.dataset)) return boxes(head.closest("tr"));
    const last = first + Number(head.dataset.columns);
    return all("tbody tr", table).flatMap((line) =>
      [...line.cells].slice(first + 1, last + 1).flatMap((cell) => boxes(cell)));
  };

  /* All that match and are missing: path -> bytes, also of those that are on other pages. */
  const missing = () => {
    const listed = one("#matching");
    if (!listed) return new Map(all(`${BOX}[data-missing]`).map((box) => [box.value, sizeOf(box)]));
    const lines = listed.dataset.saes.split("\n").filter(Boolean);
    return new Map(lines.map((line) => {
      const at = line.indexOf(" ");
      return [line.slice(at + 1), Number(line.slice(0, at))];
    }));
  };
  const adopt = () => { // boxes show what is chosen
    for (const box of boxes()) box.checked = chosen.has(box.value);
    show();
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".head, [data-choose], [data-clear-filters]");
    if (!button) return;
    if (button.matches(".head")) {
      const mine = under(button), on = !mine.every((box) => box.checked);
      mine.forEach((box) => set(box, on));
      forget();
      show();
    } else if (button.dataset.choose) {
      if (button.dataset.choose === "all") for (const [path, size] of missing()) chosen.set(path, size);
      else chosen.clear();
      forget();
      adopt();
    } else clearFilters(event);
  });
  const clearFilters = (event) => { // without leaving the page: what is chosen stays
    const form = one(".filters");
    event.preventDefault();
    for (const field of all("input:not([type=hidden], [type=radio]), select", form)) field.value = "";
    htmx.trigger(form, "submit");
  };

  // --- ranges -----------------------------------------------------------------------------------

  let anchor = null; // where a range begins,
  let before = new Map(); // and how its boxes were before it
  const forget = () => { anchor = null; before = new Map(); };
  const begin = (box) => { anchor = box; before = new Map(); };

  /* Boxes between two: of a matrix the lines and columns between them, where variants in one cell
     count as columns, too, and the last one stands for however many a cell has. */
  const between = (from, to) => {
    const table = from.closest("table");
    if (table.matches("[data-lines]")) {
      const list = boxes(table), [a, b] = [list.indexOf(from), list.indexOf(to)].sort((x, y) => x - y);
      return list.slice(a, b + 1);
    }
    const place = (box) => {
      const mine = boxes(box.closest("td")), at = mine.indexOf(box);
      return { line: box.closest("tr").sectionRowIndex, column: columnOf(box), at, last: at === mine.length - 1 };
    };
    const order = (a, b) => a.column - b.column || a.at - b.at;
    const [a, b] = [place(from), place(to)], [left, right] = order(a, b) <= 0 ? [a, b] : [b, a];
    const [top, bottom] = [Math.min(a.line, b.line), Math.max(a.line, b.line)];
    const inside = (column, at) =>
      (column > left.column || (column === left.column && at >= left.at)) &&
      (column < right.column || (column === right.column && (at <= right.at || (right.last && right.at > left.at))));
    return [...table.tBodies[0].rows].slice(top, bottom + 1).flatMap((line) =>
      [...line.cells].slice(1).flatMap((cell, column) => boxes(cell).filter((_, at) => inside(column, at))));
  };

  const extend = (to, on) => {
    if (!anchor?.isConnected || anchor.closest("table") !== to.closest("table")) begin(to);
    for (const [box, was] of before) set(box, was);
    before = new Map();
    for (const box of between(anchor, to)) {
      before.set(box, box.checked);
      set(box, on);
    }
    show();
  };

  let held = false; // Shift, at the click whose change event comes next
  document.addEventListener("click", (event) => { held = event.shiftKey; }, true);
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.matches("[data-page]")) boxes(one("[data-lines]")).forEach((it) => set(it, box.checked));
    if (box.matches("[data-page]")) forget();
    if (box.matches(BOX)) {
      const isEnd = held && anchor && anchor !== box;
      set(box, isEnd ? !box.checked : box.checked); // a range remembers how it was before the click
      if (isEnd) extend(box, anchor.checked);
      else begin(box);
    }
    show();
  });
  // A click with Shift would select text, too.
  document.addEventListener("mousedown", (event) => {
    if (event.shiftKey && event.target.closest?.(".cross, .choosable")) event.preventDefault();
  });

  // --- keys -------------------------------------------------------------------------------------

  const stops = (table) => all(STOP, table).filter((it) => !it.disabled);
  const rove = (table, to) => { // one of them is reached by Tab, arrow keys lead to the others
    for (const it of all(STOP, table)) it.tabIndex = -1;
    if (to) to.tabIndex = 0;
  };
  const middle = (it) => {
    const { left, right, top, bottom } = (it.closest("label") ?? it).getBoundingClientRect();
    return { x: (left + right) / 2, y: (top + bottom) / 2, top, bottom };
  };

  /* Up and down: the nearest in the next line of what is drawn, a wrapped cell has several. */
  const vertical = (now, list, way) => {
    const from = middle(now);
    const beyond = list.map((it) => ({ it, ...middle(it) }))
      .filter((it) => (way > 0 ? it.y > from.bottom : it.y < from.top));
    if (!beyond.length) return null;
    const nearest = Math.min(...beyond.map((it) => Math.abs(it.y - from.y)));
    const line = beyond.filter((it) => Math.abs(it.y - from.y) < nearest + 8);
    return line.reduce((best, it) => (Math.abs(it.x - from.x) < Math.abs(best.x - from.x) ? it : best)).it;
  };
  const target = (event, now, list) => {
    const line = list.filter((it) => it.closest("tr") === now.closest("tr"));
    const whole = event.ctrlKey || event.metaKey;
    switch (event.key) {
      case "ArrowRight": return line[line.indexOf(now) + 1];
      case "ArrowLeft": return line[line.indexOf(now) - 1];
      case "ArrowDown": return vertical(now, list, 1);
      case "ArrowUp": return vertical(now, list, -1);
      case "Home": return (whole ? list : line)[0];
      case "End": return (whole ? list : line).at(-1);
      default: return undefined;
    }
  };

  document.addEventListener("keydown", (event) => {
    const now = event.target, table = now.closest?.(".cross");
    if (!table || !now.matches(STOP) || !/^(Arrow|Home$|End$)/.test(event.key) || event.altKey) return;
    event.preventDefault();
    const to = target(event, now, event.shiftKey ? boxes(table) : stops(table));
    if (!to) return;
    if (event.shiftKey && now.matches(BOX)) {
      if (!anchor?.isConnected || !before.has(now)) begin(now);
      extend(to, true);
    } else if (!event.shiftKey) forget();
    rove(table, to);
    to.focus();
    to.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  document.addEventListener("focusin", (event) => {
    const table = event.target.closest?.(".cross");
    if (table && event.target.matches(STOP)) rove(table, event.target);
  });
  document.addEventListener("pointerover", (event) => {
    const box = event.target.closest?.(".pick")?.querySelector(BOX);
    if (box) box.parentElement.title = `${box.value} · ${filesize(sizeOf(box))}`;
  });

  // --- coming, going, sending -------------------------------------------------------------------

  /* What is sent is what is chosen, whether its boxes are on the page or not. */
  document.addEventListener("formdata", (event) => {
    if (event.target.id !== "choose" || event.formData.has("every")) return;
    const { formData } = event, wanted = missing();
    formData.delete("where");
    const isAll = chosen.size === wanted.size && [...wanted.keys()].every((path) => chosen.has(path));
    if (isAll && wanted.size && !("exact" in event.target.dataset)) formData.set("every", "1");
    else for (const path of chosen.keys()) formData.append("where", path);
  });

  const arrive = () => {
    all(`${BOX}[checked]`).forEach((box) => set(box, true)); // what the server ticked
    for (const table of all(".cross")) {
      const first = one(BOX, table);
      if (!first) continue;
      table.setAttribute("role", "grid");
      rove(table, first);
    }
    adopt();
  };
  document.addEventListener("htmx:afterSwap", (event) => { if (event.detail.target?.id === "rows" || one("#rows") === event.target) { forget(); arrive(); } });
  addEventListener("pageshow", (event) => { if (event.persisted) adopt(); });
  arrive();
})();
