import "./analytics.js";

const it = window.otelPosthog;
export const { capture, identify, group, reset, onFlags, flag, consent } = it;
export default it;
