/* Chooses the theme before the first paint: this script blocks, so that nothing flashes.
   What the user chose by hand is kept; otherwise the system decides, also when it changes later. */
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const KEY = "mistudio-theme";

  const chosen = () => {
    try { return localStorage.getItem(KEY); } catch { return null; } // storage may be forbidden
  };
  const bySystem = () => (system.matches ? "dark" : "light");
  const apply = () => { document.documentElement.dataset.bsTheme = chosen() || bySystem(); };

  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", apply); // another tab chose

  addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-theme-switch]")) return;
    const next = document.documentElement.dataset.bsTheme === "dark" ? "light" : "dark";
    try {
      // Back to what the system says means: follow the system again.
      if (next === bySystem()) localStorage.removeItem(KEY); else localStorage.setItem(KEY, next);
    } catch { /* the choice lasts for this page only */ }
    document.documentElement.dataset.bsTheme = next;
  });
})();
