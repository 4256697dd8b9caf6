// Before anything is drawn: one page at a time instead of all of them, in the theme that was chosen last time.
document.documentElement.classList.add("js");
try { const kept = localStorage.getItem("pipesync-theme"); if (kept) document.documentElement.dataset.theme = kept; } catch { /* not every browser keeps things of files */ }
