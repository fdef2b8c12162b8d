// HTTP routes of the server. Knows no elements of the page.

let key = stored((storage) => storage.getItem("key")) ?? "";
let streams = true;

export const route = (path) => new URL(path, document.baseURI);
export const apiKey = () => key;

export function useKey(value) {
	key = value;
	stored((storage) => storage.setItem("key", value));
}

// Storage may be forbidden: the key then lasts as the page.
function stored(action) {
	try {
		return action(sessionStorage);
	} catch {
		return null;
	}
}

// An answer that is no result, or no answer (status 0).
export class ApiError extends Error {
	constructor(status, message, detail = {}) {
		super(message);
		Object.assign(this, { status, ...detail });
	}

	static of(status, body, header = () => null) {
		const said = parsed(body)?.error;
		const message = (typeof said === "string" ? said : said?.message) || `The server answered with status ${status}.`;
		return new ApiError(status, message, { param: said?.param, retryAfter: header("retry-after"), requestId: header("x-request-id") });
	}
}

function parsed(text) {
	try {
		return JSON.parse(text);
	} catch {
		return null;
	}
}

const authorization = () => (key ? { Authorization: `Bearer ${key}` } : {});

export async function models() {
	const response = await fetch(route("v1/models"), { headers: authorization() }).catch(() => {
		throw new ApiError(0, "The server does not answer.");
	});
	const body = await response.text();
	if (!response.ok) throw ApiError.of(response.status, body, (name) => response.headers.get(name));
	return (parsed(body)?.data ?? []).map((model) => model.id);
}

// The verbose_json of a recording. `listeners`: sent(fraction), text(delta), segment(values). Throws ApiError, AbortError.
export async function transcribe(file, options, listeners, signal) {
	const streamed = streams && options.task !== "translate";
	const path = options.task === "translate" ? "v1/audio/translations" : "v1/audio/transcriptions";
	const reply = await post(route(path), form(file, options, streamed), listeners, signal);
	if (reply?.segments) return reply;
	if (!streamed) throw new ApiError(200, "The server's answer is no transcript.");
	// For servers whose stream has no times: asked again without.
	streams = false;
	return transcribe(file, options, listeners, signal);
}

function form(file, { model, language, task, to, punctuate, keywords }, streamed) {
	const translates = task === "translate";
	const fields = [
		...Object.entries({ model, language, punctuate, to: translates && to, task: task === "speakers" && task, stream: streamed, response_format: "verbose_json" }),
		...keywords.map((keyword) => ["keywords[]", keyword]),
		...(translates ? [] : ["word", "segment"]).map((kind) => ["timestamp_granularities[]", kind]),
	];
	const data = new FormData();
	for (const [name, value] of fields) if (value) data.append(name, value);
	data.append("file", file, file.name);
	return data;
}

// XMLHttpRequest, since fetch has no progress of an upload.
function post(url, data, listeners, signal) {
	return new Promise((resolve, reject) => {
		const request = new XMLHttpRequest();
		const events = new EventReader(listeners);
		request.open("POST", url);
		for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
		request.upload.onprogress = ({ lengthComputable, loaded, total }) => lengthComputable && listeners.sent(loaded / total);
		request.upload.onload = () => listeners.sent(1);
		request.onprogress = () => isStream(request) && events.read(request.responseText);
		request.onerror = () => reject(new ApiError(0, "The connection to the server failed."));
		request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
		request.onload = () => resolve(new Promise((give) => give(result(request, events))));
		signal.addEventListener("abort", () => request.abort());
		request.send(data);
	});
}

const isStream = (request) => request.status === 200 && request.getResponseHeader("content-type")?.startsWith("text/event-stream");

function result(request, events) {
	const { status, responseText } = request;
	if (isStream(request)) return events.result(responseText);
	if (status !== 200) throw ApiError.of(status, responseText, (name) => request.getResponseHeader(name));
	return parsed(responseText);
}

class EventReader {
	#listeners;
	#at = 0;
	#error = null;
	#done = null;
	#segments = [];

	constructor(listeners) {
		this.#listeners = listeners;
	}

	read(text) {
		const end = text.lastIndexOf("\n") + 1;
		const lines = text.slice(this.#at, end).split(/\r?\n/);
		this.#at = Math.max(this.#at, end);
		for (const line of lines) if (line.startsWith("data:")) this.#take(parsed(line.slice(5)) ?? {});
	}

	#take(event) {
		if (event.error) this.#error = ApiError.of(200, JSON.stringify(event));
		if (event.type === "transcript.text.delta") this.#listeners.text(event.delta);
		if (event.type === "transcript.text.segment") {
			this.#segments.push(event);
			this.#listeners.segment(event);
		}
		if (event.type === "transcript.text.done") this.#done = event;
	}

	// The last event, which has the fields of verbose_json where the server sends them.
	result(text) {
		this.read(`${text}\n`);
		if (this.#error) throw this.#error;
		if (!this.#done) throw new ApiError(0, "The connection ended before the transcript did.");
		const { type, ...reply } = this.#done;
		return this.#segments.length ? { segments: this.#segments, ...reply } : reply;
	}
}
