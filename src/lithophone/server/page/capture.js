// The microphone: samples by an AudioWorklet, recordings by MediaRecorder. Knows no server.

export const RATE = 16000;

const MICROPHONE_ERRORS = {
	NotAllowedError: "The microphone is not allowed. Allow it in the settings of this page.",
	NotFoundError: "There is no microphone: connect one.",
	NotReadableError: "Another program uses the microphone: close it.",
};

export async function openMicrophone() {
	if (!navigator.mediaDevices) throw new Error("The microphone needs a page by https or from localhost.");
	try {
		return await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
	} catch (error) {
		throw new Error(MICROPHONE_ERRORS[error.name] ?? `The microphone cannot be opened: ${error.message || error.name}.`);
	}
}

export const closeMicrophone = (stream) => stream.getTracks().forEach((track) => track.stop());

// Calls `take` with an Int16Array of 16 kHz every 100 ms; the function returned ends it.
export async function samplesOf(stream, take) {
	const context = new AudioContext();
	await context.audioWorklet.addModule(new URL("resampler-worklet.js", import.meta.url));
	await context.resume();
	const node = new AudioWorkletNode(context, "to-int16", { channelCount: 1, channelCountMode: "explicit" });
	const ended = new Promise((resolve) => {
		node.port.onmessage = ({ data }) => (data ? take(data) : resolve());
	});
	// The node's output is silence; one that leads nowhere may not run.
	context.createMediaStreamSource(stream).connect(node).connect(context.destination);
	return async () => {
		node.port.postMessage("end");
		await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 1000))]);
		await context.close();
	};
}

// Peak of the samples, 0..1 for -60..0 dB.
export function levelOf(samples) {
	const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1);
	return Math.max(0, 1 + Math.log10(peak / 32768) / 3);
}

// Records; the function returned ends it and gives the File.
export function record(stream) {
	const type = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"].find((one) => MediaRecorder.isTypeSupported(one));
	const recorder = new MediaRecorder(stream, type && { mimeType: type });
	const parts = [];
	recorder.ondataavailable = ({ data }) => parts.push(data);
	const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve));
	recorder.start(1000);
	return async () => {
		if (recorder.state !== "inactive") recorder.stop();
		await stopped;
		const [kind] = recorder.mimeType.split(";");
		return new File(parts, `${nameByTime("recording")}.${kind.split("/")[1]}`, { type: kind });
	};
}

export function nameByTime(word) {
	return `${word}-${new Date().toLocaleString("sv").replace(" ", "-").replaceAll(":", "")}`;
}

// Int16Arrays -> a WAV file.
export class WavWriter {
	#parts = [];
	#bytes = 0;

	push(samples) {
		this.#parts.push(samples);
		this.#bytes += samples.byteLength;
		// A Blob may be kept outside the page's memory.
		if (this.#parts.length > 600) this.#parts = [new Blob(this.#parts)];
	}

	file(name) {
		return new File([header(this.#bytes), ...this.#parts], name, { type: "audio/wav" });
	}
}

// 16 bytes of format: PCM of one channel, rate, bytes a second, 2 bytes and 16 bits a sample.
function header(bytes) {
	const [riff, wave, format, data] = [0x46464952, 0x45564157, 0x20746d66, 0x61746164];
	return new Uint32Array([riff, 36 + bytes, wave, format, 16, 0x10001, RATE, RATE * 2, 0x100002, data, bytes]);
}
