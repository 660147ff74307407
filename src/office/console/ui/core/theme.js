// Runs before the first paint, so that a dark office does not flash white. A classic script: it must not wait.
(() => {
  try {
    const theme = localStorage.getItem('taimat.theme');
    if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
    const lang = localStorage.getItem('taimat.language');
    if (lang === 'vi' || lang === 'en') document.documentElement.lang = lang;
  } catch { /* storage is refused: the system's theme stays */ }
})();
