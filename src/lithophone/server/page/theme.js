// The appearance chosen earlier, if storage is allowed. A classic script, to run before the first paint.
(() => {
	let chosen;
	try {
		chosen = localStorage.getItem("theme");
	} catch {}
	document.documentElement.dataset.theme = chosen ?? "system";
})();
