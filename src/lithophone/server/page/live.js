// Live captions: OpenAI's realtime transcription events over a WebSocket. Knows no elements of the page.
import { ApiError, apiKey, route } from "./api.js";
import { RATE } from "./capture.js";

const BEHIND_BYTES = 1 << 20; // About 25 s of audio that the network has not taken.
const LAST_WORDS_MS = 30000;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const base64 = (samples) => btoa(String.fromCharCode(...new Uint8Array(samples.buffer)));

// `listeners`: item(item) whenever one changes, {id, text, isFinal, error, speaker, start, end}; failed(error), once.
export class Captions {
	items = new Map();
	#socket;
	#listeners;
	#configured = Promise.withResolvers();
	#finished = Promise.withResolvers();
	#isFinishing = false;
	#isCommitted = false;

	constructor(options, listeners) {
		this.#listeners = listeners;
		const url = route("v1/realtime?intent=transcription");
		url.protocol = url.protocol.replace("http", "ws");
		this.#socket = new WebSocket(url, ["realtime", ...(apiKey() ? [`openai-insecure-api-key.${apiKey()}`] : [])]);
		this.#socket.onmessage = ({ data }) => this.#take(JSON.parse(data), options);
		this.#socket.onclose = ({ code, reason }) => {
			this.#fail(new ApiError(0, `The connection for live captions was closed: ${reason || `code ${code}`}.`));
		};
	}

	// Sends samples, once the session is configured.
	async push(samples) {
		await this.#configured.promise;
		if (this.#socket.readyState !== WebSocket.OPEN || this.#isFinishing) return;
		if (this.#socket.bufferedAmount > BEHIND_BYTES) this.#fail(new Error("The network is too slow for live captions."));
		else this.#send({ type: "input_audio_buffer.append", audio: base64(samples) });
	}

	// Ends the audio and waits for the last captions.
	async finish() {
		if (this.#socket.readyState <= WebSocket.OPEN) await Promise.race([this.#configured.promise, this.#finished.promise, wait(5000)]);
		this.#isFinishing = true;
		if (this.#socket.readyState === WebSocket.OPEN) {
			this.#send({ type: "input_audio_buffer.commit" });
			await Promise.race([this.#finished.promise, wait(LAST_WORDS_MS)]);
		}
		this.#quit();
	}

	#send(event) {
		this.#socket.send(JSON.stringify(event));
	}

	#quit() {
		this.#socket.onclose = null;
		this.#socket.close();
		this.#finished.resolve();
	}

	#fail(error) {
		this.#quit();
		this.#listeners.failed(error);
	}

	#take(event, options) {
		const { type, item_id: id } = event;
		if (type === "session.created") this.#send({ type: "session.update", session: session(options) });
		if (type === "session.updated") this.#configured.resolve();
		if (type === "input_audio_buffer.speech_started") this.#change(id, { start: event.audio_start_ms / 1000 });
		if (type === "input_audio_buffer.speech_stopped") this.#change(id, { end: event.audio_end_ms / 1000 });
		if (type === "input_audio_buffer.committed") {
			this.#change(id, {});
			this.#isCommitted = this.#isFinishing;
		}
		if (type === "error") this.#error(event.error);
		if (type.startsWith("conversation.item.input_audio_transcription.")) this.#transcribed(type.split(".").pop(), event);
		if (this.#isCommitted && [...this.items.values()].every((item) => item.isFinal)) this.#finished.resolve();
	}

	#transcribed(kind, { item_id: id, delta, speaker, transcript, error }) {
		if (kind === "delta") this.#change(id, { text: (this.items.get(id)?.text ?? "") + (delta ?? "") });
		if (kind === "segment" && speaker) this.#change(id, { speaker });
		if (kind === "completed") this.#change(id, { text: transcript.trim(), isFinal: true });
		if (kind === "failed") this.#change(id, { error: error.message, isFinal: true });
	}

	#change(id, values) {
		const item = { id, text: "", isFinal: false, ...this.items.get(id), ...values };
		this.items.set(id, item);
		this.#listeners.item(item);
	}

	#error({ code, message, param }) {
		// The server's voice activity detection may have committed the last speech already.
		if (code === "input_audio_buffer_commit_empty") this.#isCommitted = true;
		else this.#fail(new ApiError(code === "invalid_api_key" ? 401 : 400, message, { param }));
	}
}

function session({ model, language, keywords }) {
	const known = language !== "auto" && language; // the server detects languages of recordings alone
	const transcription = { ...(model && { model }), ...(known && { language }), ...(keywords.length && { keywords }) };
	const input = { format: { type: "audio/pcm", rate: RATE }, transcription, turn_detection: { type: "server_vad" } };
	return { type: "transcription", audio: { input } };
}
