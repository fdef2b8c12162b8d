// Before the first paint: the appearance chosen earlier. A classic script, since modules run later.
(() => {
	let chosen;
	try {
		chosen = localStorage.getItem("theme");
	} catch {} // Storage may be forbidden.
	document.documentElement.dataset.theme = chosen ?? "system";
})();
