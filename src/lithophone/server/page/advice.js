// What to do about an error of the server.

const BY_STATUS = {
	0: "Check that the server runs and that you are connected to it, then try again.",
	401: "Enter an API key of this server.",
	403: "This API key is not allowed to do that: ask the operator of the server.",
	413: "Cut the recording, or send it as MP3 or Opus.",
	504: "Try again, with a shorter recording if it stays so.",
};
const BY_PARAM = {
	file: "Check that the file is a recording that plays, or choose another.",
	model: "Choose another model.",
};

export function adviceOn({ status, param, retryAfter, requestId }) {
	if (status === 429 || status === 503) return `The server is busy: try again in ${retryAfter ? `${retryAfter} s` : "a moment"}.`;
	if (status >= 400 && status < 500) return BY_STATUS[status] ?? BY_PARAM[param] ?? "Change the options or the file, and try again.";
	return BY_STATUS[status] ?? `Try again. If it stays so, tell the operator of the server${requestId ? `: request ${requestId}` : ""}.`;
}
