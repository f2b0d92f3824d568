// Sets language and theme before anything is drawn, so that nothing flashes.
(() => {
  const kept = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const first = (navigator.languages || [navigator.language]).map(String).find((each) => /^(zh|en)/i.test(each));
  const dark = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.lang = kept("relay.lang") || (/^zh/i.test(first || "") ? "zh-CN" : "en");
  document.documentElement.dataset.theme = kept("relay.theme") || dark;
})();
