// Keeps the part of a page up to date that changes. Without this script the page is loaded again now and then.
(function () {
  "use strict";
  var part = document.getElementById("live");
  var status = document.getElementById("live-status");
  if (!part || !part.dataset.from || !window.EventSource) return;
  var source = null;
  function say(text) { if (status && status.textContent !== text) status.textContent = text; }
  function replace(event) {
    var chosen = window.getSelection && String(window.getSelection());
    if (chosen) return; // a replacement would undo the selection
    var links = Array.prototype.slice.call(part.querySelectorAll("a"));
    var focused = links.indexOf(document.activeElement);
    var href = focused < 0 ? null : links[focused].getAttribute("href");
    part.innerHTML = event.data; // which the server's template has escaped
    if (href === null) return;
    Array.prototype.some.call(part.querySelectorAll("a"), function (a) {
      if (a.getAttribute("href") !== href) return false;
      a.focus();
      return true;
    });
  }
  function open() {
    if (source) return;
    source = new EventSource(part.dataset.from);
    source.addEventListener("page", replace);
    source.onopen = function () { say("live"); };
    source.onerror = function () { say("not connected: what you see may be old"); };
  }
  function close() {
    if (source) source.close();
    source = null;
  }
  document.addEventListener("visibilitychange", function () { if (document.hidden) close(); else open(); });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
})();
