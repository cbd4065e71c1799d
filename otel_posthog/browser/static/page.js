(function (root, document, page) {
  "use strict";
  /* What other scripts may call before posthog-js is here. */
  var METHODS = "alias capture captureException get_distinct_id get_session_id group identify onFeatureFlags onSessionId " +
    "opt_in_capturing opt_out_capturing register register_for_session register_once reloadFeatureFlags reset " +
    "setPersonProperties setPersonPropertiesForFlags startSessionRecording stopSessionRecording unregister";
  var PERSON = "otel_posthog_person", own = document.currentScript, begun = false;

  function memory(name, value) {
    try {
      if (value === undefined) return root.localStorage.getItem(name);
      if (value) root.localStorage.setItem(name, value); else root.localStorage.removeItem(name);
    } catch (error) { /* no storage: nobody is remembered */ }
    return null;
  }

  function options() {
    var made = page.options, start = made.bootstrap, name = "ph_" + page.token + "_posthog";
    if (document.cookie.indexOf(name + "=") >= 0 || memory(name) !== null) {
      /* This browser has a session, and who is not logged in an id: those go on. */
      delete start.sessionID;
      if (!start.isIdentifiedID) { delete start.distinctID; delete start.isIdentifiedID; }
    }
    if (!made.tracing_headers) made.tracing_headers = [root.location.hostname];
    made.before_send = function (event) {
      if (event && event.properties && event.event !== "$snapshot") {
        Object.keys(page.properties).forEach(function (key) {
          if (!(key in event.properties)) event.properties[key] = page.properties[key];
        });
      }
      return event;
    };
    made.prepare_external_dependency_script = function (script) {
      if (own && own.nonce) script.nonce = own.nonce;
      return script;
    };
    made.loaded = function (posthog) {
      var last = memory(PERSON), now = posthog.get_distinct_id();
      if (start.isIdentifiedID) {
        /* Somebody else was logged in here before, and did not log out by way of a page of ours. */
        if (now !== start.distinctID && last !== start.distinctID) posthog.reset({ bootstrap: start });
        memory(PERSON, start.distinctID);
      } else if (page.signed_out && last) {
        if (now === last) posthog.reset();
        memory(PERSON, "");
      }
      /* An earlier no in this browser does not outlive a yes. */
      if (page.consented && posthog.has_opted_out_capturing()) posthog.opt_in_capturing({ captureEventName: false });
      Object.keys(page.groups).forEach(function (type) { posthog.group(type, page.groups[type]); });
      root.otelPosthog._ready(posthog);
    };
    return made;
  }

  function load(given) {
    var posthog = root.posthog, script = document.createElement("script");
    if (begun || (posthog && (posthog.__loaded || posthog.__SV))) return;
    begun = true;
    page.consented = page.consented || given;
    posthog = root.posthog = [];
    posthog.__SV = 1;
    posthog.people = [];
    posthog.init = function () {};
    METHODS.split(" ").forEach(function (name) {
      posthog[name] = function () {
        if (posthog.length < 100) posthog.push([name].concat([].slice.call(arguments)));
      };
    });
    posthog.getFeatureFlag = function (key) { return root.otelPosthog.flag(key); };
    posthog.isFeatureEnabled = function (key) { var value = root.otelPosthog.flag(key); return value && true; };
    posthog._i = [[page.token, options(), "posthog"]];
    script.async = true;
    script.src = page.script;
    if (own && own.nonce) script.nonce = own.nonce;
    script.onerror = function () {
      posthog.length = 0;
      posthog.push = function () { return 0; };
      root.otelPosthog._gone();
    };
    document.head.appendChild(script);
  }

  root.otelPosthog._page(page.granted, page.options.bootstrap.featureFlags, load);
})(window, document, PAGE);
