/* window.otelPosthog: posthog-js for pages, safe where it is absent, blocked or not here yet. Nothing throws. */
(function (root) {
  "use strict";
  if (root.otelPosthog) return;
  var LIMIT = 100, waiting = [], on = true, load, flags = {};
  function live() {
    var it = root.posthog;
    return it && it.__loaded ? it : null;
  }
  function send(it, name, args) {
    try { return it[name].apply(it, args); } catch (error) { /* the page goes on */ }
  }
  function ready(it) {
    var calls = waiting;
    it = it || live();
    if (it && on) {
      waiting = [];
      calls.forEach(function (call) { send(it, call[0], call[1]); });
    }
    return it;
  }
  function method(name) {
    return function () {
      if (!on) return;
      var it = ready(null), args = [].slice.call(arguments);
      if (it) send(it, name, args);
      else if (waiting.length < LIMIT) waiting.push([name, args]);
    };
  }
  root.otelPosthog = {
    capture: method("capture"),
    identify: method("identify"),
    group: method("group"),
    reset: method("reset"),
    onFlags: method("onFeatureFlags"),
    flag: function (key, fallback) {
      var it = on && live(), value = it ? send(it, "getFeatureFlag", [key]) : undefined;
      if (value === undefined && Object.prototype.hasOwnProperty.call(flags, key)) value = flags[key];
      return value === undefined ? fallback : value;
    },
    consent: function (given) {
      var it = live();
      on = !!given;
      if (!on) waiting = [];
      if (it) send(it, on ? "opt_in_capturing" : "opt_out_capturing", [{ captureEventName: false }]);
      else if (on && load) load(true);
    },
    /* For the script that posthog_script() writes. */
    _page: function (given, values, loader) {
      on = given;
      flags = values;
      load = loader;
      if (on) load(); else waiting = [];
    },
    _ready: ready,
    _gone: function () { on = false; waiting = []; }
  };
})(window);
