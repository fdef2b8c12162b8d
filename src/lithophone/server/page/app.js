// Elements of the page, and what happens between them.
import { adviceOn } from "./advice.js";
import * as api from "./api.js";
import { closeMicrophone, levelOf, nameByTime, openMicrophone, record, samplesOf, WavWriter } from "./capture.js";
import { FORMATS } from "./formats.js";
import { Captions } from "./live.js";
import { element, load, TranscriptView } from "./player.js";
import { clock } from "./turns.js";

const $ = (id) => document.getElementById(id);
const show = (id, isShown = true) => { $(id).hidden = !isShown; };
const put = (id, text) => { $(id).textContent = text; };
const announce = (text) => put("status", text);

const view = new TranscriptView($("transcript"), $("player"), () => $("follow").checked);
const state = { file: null, reply: null, work: null, stop: null }; // `work` cancels a request, `stop` ends a capture.

// --- options

function options() {
	const chosen = ["model", "language", "task", "to", "punctuate"].map((id) => [id, $(id).value]);
	const keywords = $("keywords").value.split(/[,、，\n]/).map((word) => word.trim()).filter(Boolean);
	return { ...Object.fromEntries(chosen), keywords };
}

async function listModels() {
	const names = await api.models();
	if (names.length) $("model").replaceChildren(...names.map((name) => element("option", { value: name, textContent: name })));
}

// --- errors

function complain(error, retry = null) {
	if (error.name === "AbortError") return announce("Cancelled.");
	const isKey = error.status === 401;
	if (isKey) {
		show("key-form");
		$("key").focus();
		if (!api.apiKey()) return;
	}
	put("problem-text", error.message[0].toUpperCase() + error.message.slice(1));
	put("problem-advice", error instanceof api.ApiError ? adviceOn(error) : "");
	show("retry", Boolean(retry) && !isKey);
	$("retry").onclick = retry;
	show("problem");
}

async function useKey(event) {
	event.preventDefault();
	api.useKey($("key").value.trim());
	show("problem", false);
	try {
		await listModels();
	} catch (error) {
		return complain(error);
	}
	show("key-form", false);
	announce("The key is accepted.");
	$("file").focus();
	if (state.file && !state.reply) transcribe(state.file);
}

// --- a recording

function busy(isBusy) {
	for (const id of ["file", "record", "live", "again"]) $(id).disabled = isBusy;
}

async function transcribe(file) {
	if (state.work || state.stop) return complain(new Error("Stop or cancel what is under way first."));
	Object.assign(state, { file, reply: null, work: new AbortController() });
	for (const id of ["problem", "result", "live-section"]) show(id, false);
	busy(true);
	load($("player"), file);
	const ticking = startProgress(file);
	let failure = null;
	try {
		state.reply = await api.transcribe(file, options(), progress, state.work.signal);
	} catch (error) {
		failure = error;
	}
	clearInterval(ticking);
	const isFocusFree = [$("cancel"), document.body].includes(document.activeElement);
	show("work", false);
	state.work = null;
	busy(false);
	if (failure) complain(failure, () => transcribe(file));
	else display();
	if (isFocusFree && document.activeElement !== $("key")) (failure ? $("file") : $("result")).focus({ preventScroll: Boolean(failure) });
}

function startProgress(file) {
	const began = performance.now();
	put("elapsed", "");
	put("doing", `Sending ${file.name}`);
	$("preview").firstChild.textContent = "";
	$("progress").removeAttribute("value");
	show("work");
	if (document.activeElement.disabled || document.activeElement === document.body) $("cancel").focus();
	announce(`Sending ${file.name}.`);
	return setInterval(() => put("elapsed", clock((performance.now() - began) / 1000)), 500);
}

const progress = {
	sent(fraction) {
		if (fraction < 1) $("progress").value = fraction;
		else if ($("doing").textContent !== "Transcribing") {
			put("doing", "Transcribing");
			announce("Transcribing.");
			$("progress").removeAttribute("value");
		}
	},
	text: (delta) => $("preview").firstChild.append(delta),
	segment({ end }) {
		const { duration } = $("player");
		if (duration > 0) $("progress").value = Math.min(1, end / duration);
	},
};

function display() {
	const { reply } = state;
	const found = view.show(reply);
	const language = [...$("to").options].find(({ value, text }) => [value, text.toLowerCase()].includes(reply.language));
	$("transcript").lang = language?.value ?? "";
	put("facts", facts(reply, found, language?.text));
	$("warnings").replaceChildren(...(reply.warnings ?? []).map(({ message }) => element("li", { textContent: message })));
	show("shade-field", found.hasDoubt);
	show("result");
	announce(reply.segments.length ? "The transcript is ready." : "No speech was found.");
}

function facts(reply, { words, speakers }, language) {
	const seconds = reply.duration ?? $("player").duration;
	const many = (number, name) => number && `${number} ${name}${number === 1 ? "" : "s"}`;
	const length = seconds > 0 && seconds < Infinity && clock(seconds);
	const found = reply.segments.length ? many(words, "word") : "no speech found";
	return [state.file.name, language, length, found, many(speakers, "speaker")].filter(Boolean).join(" · ");
}

// --- the microphone

// Starts, or stops what runs. `start(stream)` gives the function that ends it.
async function capture(button, start) {
	if (state.stop) return state.stop();
	const label = button.textContent;
	let [stream, end, isStopping] = [null, null, false];
	const stop = async () => {
		if (isStopping) return;
		isStopping = true;
		button.disabled = true;
		show("capture", false);
		await end?.().catch(complain);
		if (stream) closeMicrophone(stream);
		state.stop = null;
		button.textContent = label;
		button.classList.remove("primary");
		document.body.classList.remove("capturing");
		busy(false);
	};
	state.stop = stop;
	show("problem", false);
	busy(true);
	try {
		stream = await openMicrophone();
		end = await start(stream);
	} catch (error) {
		await stop();
		return complain(error);
	}
	if (isStopping) return end();
	button.textContent = `Stop ${label === "Record" ? "recording" : "captions"}`;
	button.classList.add("primary");
	button.disabled = false;
	button.focus();
	tick(stop);
}

function tick(stop) {
	const began = performance.now();
	const step = () => {
		if (state.stop === stop) put("clock", clock((performance.now() - began) / 1000));
		else clearInterval(ticking);
	};
	const ticking = setInterval(step, 250);
	step();
	show("capture");
	document.body.classList.add("capturing");
}

const showLevel = (samples) => { $("level").value = levelOf(samples); };

async function recordFrom(stream) {
	show("result", false);
	const end = record(stream);
	const endLevel = await samplesOf(stream, showLevel);
	announce("Recording.");
	return async () => {
		await endLevel();
		const file = await end();
		setTimeout(() => transcribe(file)); // After the capture has ended.
	};
}

async function captionsFrom(stream) {
	if (options().task === "translate") throw new Error("Live captions do not translate: choose another task.");
	$("captions").replaceChildren();
	$("spoken").replaceChildren();
	show("result", false);
	show("live-section");
	const wav = new WavWriter();
	const captions = openCaptions();
	const wake = await navigator.wakeLock?.request("screen").catch(() => null);
	const endSamples = await samplesOf(stream, (samples) => {
		showLevel(samples);
		captions.push(samples);
		wav.push(samples);
	});
	announce("Live captions are on.");
	return async () => {
		await endSamples();
		announce("Waiting for the last captions.");
		await captions.finish();
		await wake?.release();
		keep([...captions.items.values()].filter((item) => item.text), wav);
	};
}

function openCaptions() {
	const failed = async (error) => {
		await state.stop?.();
		// Browsers do not say why a WebSocket was refused; this route does.
		complain(await api.models().then(() => error, (reason) => reason));
	};
	try {
		return new Captions(options(), { item: showCaption, failed });
	} catch {
		throw new api.ApiError(401, "This key has characters that a WebSocket cannot send.");
	}
}

function showCaption({ id, text, isFinal, error, speaker }) {
	const line = $(`caption-${id}`) ?? $("captions").appendChild(element("p", { id: `caption-${id}` }));
	line.textContent = error ? `This part failed: ${error}` : (speaker ? `${speaker}: ` : "") + (text || (isFinal ? "" : "…"));
	line.className = error ? "failed" : isFinal ? "" : "open";
	$("captions").scrollTop = $("captions").scrollHeight;
	// Screen readers get a caption once, when it is final.
	if (isFinal && text) $("spoken").append(element("p", { textContent: text }));
}

// Captions become a transcript.
function keep(said, wav) {
	if (!said.length) return announce("No speech was found.");
	const segments = said.map(({ text, speaker, start = 0, end }, id) => ({ id, start, end: end ?? said[id + 1]?.start ?? start + 1, text, speaker }));
	state.file = wav.file(`${nameByTime("captions")}.wav`);
	state.reply = { text: segments.map(({ text }) => text).join(" "), segments };
	load($("player"), state.file);
	show("live-section", false);
	display();
}

// --- files in and out

function take(files) {
	if (files.length) transcribe(files[0]);
	if (files.length > 1) complain(new Error(`One recording at a time: ${files[0].name} is taken.`));
}

function download(format) {
	const { type, write } = FORMATS[format];
	const link = element("a", { download: `${state.file.name.replace(/\.[^.]*$/, "")}.${format}` });
	link.href = URL.createObjectURL(new Blob([write(state.reply)], { type: `${type};charset=utf-8` }));
	link.click();
	setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function copy() {
	try {
		await navigator.clipboard.writeText(FORMATS.txt.write(state.reply));
		announce("The text is copied.");
		put("copy", "Copied");
		setTimeout(() => put("copy", "Copy"), 1500);
	} catch {
		complain(new Error("The browser does not let this page copy: download the text."));
	}
}

function listenForFiles() {
	$("file").addEventListener("change", () => {
		take([...$("file").files]);
		$("file").value = ""; // The same file may be chosen again.
	});
	addEventListener("paste", ({ clipboardData }) => take([...clipboardData.files]));
	const dragging = (isOver) => document.body.classList.toggle("dragging", isOver);
	addEventListener("dragover", (event) => {
		event.preventDefault();
		dragging(true);
	});
	addEventListener("dragleave", ({ relatedTarget }) => dragging(relatedTarget !== null));
	addEventListener("drop", (event) => {
		event.preventDefault();
		dragging(false);
		take([...event.dataTransfer.files]);
	});
}

function chooseTheme() {
	document.documentElement.dataset.theme = $("theme").value;
	try {
		localStorage.setItem("theme", $("theme").value);
	} catch {} // Storage may be forbidden.
}

const actions = {
	theme: ["change", chooseTheme],
	task: ["change", () => show("to-field", $("task").value === "translate")],
	"key-form": ["submit", useKey],
	record: ["click", () => capture($("record"), recordFrom)],
	live: ["click", () => capture($("live"), captionsFrom)],
	cancel: ["click", () => state.work?.abort()],
	copy: ["click", copy],
	again: ["click", () => transcribe(state.file)],
	shade: ["change", () => $("transcript").classList.toggle("shaded", $("shade").checked)],
};
for (const [id, [event, action]] of Object.entries(actions)) $(id).addEventListener(event, action);
for (const button of document.querySelectorAll("[data-format]")) button.addEventListener("click", () => download(button.dataset.format));
listenForFiles();
$("theme").value = document.documentElement.dataset.theme;
$("transcript").classList.toggle("shaded", $("shade").checked);
listModels().catch(complain);
