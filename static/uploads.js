/* Sending files to the server in pieces: each goes where the last one ended, so that a connection
   that breaks costs no more than a piece. Without JavaScript the form sends its files itself. */
(() => {
  const form = document.getElementById("upload");
  if (!form) return;
  const one = (selector, inside = document) => inside.querySelector(selector);
  const TRIES = 6, FIRST_WAIT = 500; // milliseconds, doubled each time
  const PIECE = Number(form.dataset.piece), MOST = Number(form.dataset.most);
  const token = one("input[name=csrfmiddlewaretoken]", form).value;
  const running = new Set(), kept = [];
  const say = (text) => { document.getElementById("announcer").textContent = text; };
  const pause = (time) => new Promise((done) => { setTimeout(done, time); });

  const UNITS = [["TB", 1e12, 2], ["GB", 1e9, 2], ["MB", 1e6, 1], ["kB", 1e3, 0], ["B", 1, 0]];
  const filesize = (bytes) => { // as the server writes it
    const [name, worth, digits] = UNITS.find(([, worth]) => bytes >= worth * 0.9995) ?? UNITS.at(-1);
    return `${(bytes / worth).toFixed(digits)} ${name}`;
  };

  // --- one request ------------------------------------------------------------------------------

  class Refused extends Error {
    constructor(status, told) {
      super(told?.detail ? `${told.detail} ${told.solution ?? ""}` : `The server refused it (${status}).`);
      this.status = status;
      this.here = told?.here;
    }
    get passes() { return this.status === 0 || this.status >= 500 && this.status !== 507 || this.status === 429; }
  }

  /* fetch() does not tell how much was sent; this does. */
  const post = (url, body, type, sending, moved = () => {}) => new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    sending.request = request;
    request.open("POST", url);
    request.setRequestHeader("X-CSRFToken", token);
    request.setRequestHeader("Content-Type", type);
    request.upload.onprogress = (event) => moved(event.loaded);
    request.onerror = request.onabort = () => fail(new Refused(0, { detail: "The server cannot be reached." }));
    request.onload = () => {
      let told = null;
      try { told = JSON.parse(request.responseText); } catch { /* a page: of a proxy, or to sign in */ }
      if (request.status === 200 && told) done(told);
      else fail(new Refused(request.status === 200 ? 403 : request.status, told));
    };
    request.send(body);
  });

  // --- one upload -------------------------------------------------------------------------------

  class Sending {
    constructor(files) { // [{ name, file }]
      this.files = files;
      this.total = files.reduce((sum, it) => sum + it.file.size, 0);
      const tops = new Set(files.map((it) => it.name.split("/")[0]));
      this.title = tops.size === 1 ? [...tops][0] : `${files.length} files`;
      this.done = 0; // bytes of the files before this one
      this.number = 0;
      this.here = 0; // bytes of this one
      this.shown = 0;
      this.element = one("#sending-one").firstElementChild.cloneNode(true);
      one("[data-name]", this.element).textContent = this.title;
      this.bar = one("progress", this.element);
      this.bar.setAttribute("aria-label", `Upload of ${this.title}`);
      one("[data-cancel]", this.element).addEventListener("click", () => this.cancel());
      one("[data-retry]", this.element).addEventListener("click", () => this.run());
      one("#sending").append(this.element);
      this.move(0);
    }

    move(extra) { // never back, though a piece may be sent again
      const sent = Math.min(this.total, this.done + this.here + extra);
      this.shown = Math.max(this.shown, sent);
      const percent = this.total ? 100 * this.shown / this.total : 100;
      this.bar.value = percent;
      one("[data-percent]", this.element).textContent = `${Math.floor(percent)} %`;
      one("[data-says]", this.element).textContent = `${filesize(this.shown)} of ${filesize(this.total)}`;
    }

    problem(text, again) {
      const place = one("[data-problem]", this.element);
      place.hidden = !text;
      place.textContent = text;
      one("[data-retry]", this.element).hidden = !again;
      if (text) say(`${this.title}: ${text}`);
    }

    async run() {
      running.add(this);
      this.problem("", false);
      try {
        await this.announce();
        while (!this.made.is_whole && this.number < this.files.length) await this.file();
        this.end();
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (!this.cancelled) this.problem(error.message, true);
      } finally {
        running.delete(this);
        if (!this.cancelled) leave();
      }
    }

    async announce() {
      if (this.made) return;
      if (this.files.length > MOST) throw new Refused(422, { detail: `These are ${this.files.length} files; an upload has at most ${MOST}.`, solution: "Put them into one zip archive." });
      const files = this.files.map(({ name, file }) => ({ name, size: file.size }));
      this.made = await this.patiently(() => post(form.dataset.announce, JSON.stringify({ files }), "application/json", this));
      say(`Uploading ${this.title}`);
    }

    async file() {
      const { file } = this.files[this.number];
      while (this.here < file.size) {
        const url = `${this.made.pieces}?file=${this.number}&offset=`;
        const told = await this.patiently(() => {
          const piece = file.slice(this.here, this.here + PIECE);
          return post(url + this.here, piece, "application/octet-stream", this, (sent) => this.move(Math.min(sent, piece.size)));
        });
        this.here = told.here;
        this.made.is_whole = told.is_whole;
        this.move(0);
      }
      this.done += file.size;
      this.here = 0;
      this.number += 1;
    }

    /* Tries again while that may help. Where a piece arrived though its answer was lost, the server
       says how much it has. */
    async patiently(ask) {
      for (let tried = 1; ; tried += 1) {
        try {
          return await ask();
        } catch (error) {
          if (this.cancelled || !(error instanceof Refused)) throw error;
          if (error.here !== undefined && error.here !== this.here) return { here: error.here, is_whole: false };
          if (!error.passes || tried >= TRIES) throw error;
          one("[data-says]", this.element).textContent = "The server cannot be reached; trying again…";
          await pause(FIRST_WAIT * 2 ** (tried - 1));
        }
      }
    }

    end() {
      this.move(0);
      kept.push(this);
      one("[data-cancel]", this.element).hidden = true;
      const look = one("[data-look]", this.element);
      look.hidden = false;
      look.href = this.made.page;
      say(`${this.title} is uploaded`);
    }

    async cancel() {
      this.cancelled = true;
      this.request?.abort();
      running.delete(this);
      this.element.remove();
      say(`${this.title} is cancelled`);
      if (this.made) await post(this.made.discard, "", "text/plain", this).catch(() => {});
    }
  }

  /* One upload leads to its page; where there were several each has its own link. */
  const leave = () => {
    const rows = one("#sending").children.length;
    if (!running.size && kept.length === 1 && rows === 1) location.assign(kept[0].made.page);
  };

  /* Each zip archive is an upload of its own, all else together is another. */
  const begin = (files) => {
    const found = files.filter((it) => !/(^|\/)(\.DS_Store|Thumbs\.db|desktop\.ini)$/.test(it.name));
    const isZip = (it) => /\.zip$/i.test(it.name) && !it.name.includes("/");
    const rest = found.filter((it) => !isZip(it));
    const made = [...found.filter(isZip).map((it) => [it]), ...(rest.length ? [rest] : [])].map((it) => new Sending(it));
    made.forEach((it) => it.run());
  };

  // --- choosing and dropping --------------------------------------------------------------------

  const named = (file) => ({ name: file.webkitRelativePath || file.name, file });
  form.addEventListener("change", ({ target }) => {
    if (!target.matches("input[type=file]")) return;
    const files = [...target.files].map(named);
    target.value = ""; // the same may be chosen again
    begin(files);
  });
  form.addEventListener("submit", (event) => event.preventDefault());

  const fileOf = (entry) => new Promise((done, fail) => { entry.file(done, fail); });
  const someOf = (reader) => new Promise((done, fail) => { reader.readEntries(done, fail); });
  const filesIn = async (entry) => {
    if (entry.isFile) return [{ name: entry.fullPath.slice(1), file: await fileOf(entry) }];
    const reader = entry.createReader(), found = [];
    for (let some = await someOf(reader); some.length; some = await someOf(reader)) // by hundreds
      for (const inner of some) found.push(...await filesIn(inner));
    return found;
  };

  const drop = one("[data-drop]", form);
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // else the browser opens what misses the place
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    const items = [...event.dataTransfer.items].filter((it) => it.kind === "file");
    const plain = [...event.dataTransfer.files].map(named);
    const entries = items.map((it) => it.webkitGetAsEntry?.()); // gone after the first await
    const found = await Promise.all(entries.filter(Boolean).map(filesIn));
    begin(entries.every(Boolean) && entries.length ? found.flat() : plain);
  });

  addEventListener("beforeunload", (event) => { if (running.size) event.preventDefault(); });
})();
