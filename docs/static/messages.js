// On the page of troubleshooting: shows the message that the pasted one is, or those that are like
// it. A message is a list of words and values, <var>; of several that fit, the one with the most
// words is meant.
(function () {
  "use strict";
  var SHOWN = 5, ALIKE = 0.3;
  var input = document.getElementById("said");
  var list = document.getElementById("nearest");
  var owners = JSON.parse(document.getElementById("owners").textContent);
  var all = null; // read when somebody begins to type

  function words(text) {
    return text.toLowerCase().match(/[a-z_]{2,}/g) || [];
  }

  function read(item) {
    return { item: item, pattern: pattern(item), words: words(text(item)) };
  }

  // The words of a message without its values.
  function text(item) {
    var said = item.querySelector(".said").cloneNode(true);
    said.querySelectorAll("var").forEach(function (value) { value.remove(); });
    return said.textContent;
  }

  function pattern(item) {
    var parts = [];
    item.querySelector(".said").childNodes.forEach(function (node) {
      var literal = node.textContent.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
      parts.push(node.nodeName === "VAR" ? "[\\s\\S]*?" : literal);
    });
    return new RegExp("^" + parts.join("") + "$");
  }

  // How near a message is: 1 and more where it can be the one, by the length of what is the same.
  function fit(one, said, known) {
    if (one.pattern.test(said)) return 1 + text(one.item).length;
    var common = one.words.filter(function (word) { return known.has(word); }).length;
    return common / Math.sqrt(one.words.length * known.size);
  }

  // A link to the options of what the message begins with.
  function add_owner(said) {
    var name = (said.match(/^(?:[a-z]+\.)*(\w+): /) || [])[1];
    if (!name || !Object.prototype.hasOwnProperty.call(owners, name)) return;
    var item = document.createElement("li"), link = document.createElement("a");
    link.href = owners[name];
    link.textContent = "the page of " + name;
    item.append("What it expects stands on ", link, ".");
    list.append(item);
  }

  input.addEventListener("input", function () {
    var said = this.value.trim().replace(/^\w*(Error|Warning): /, "");
    var known = new Set(words(said));
    list.textContent = "";
    if (known.size < 2) return;
    all = all || Array.from(document.querySelectorAll("li.message"), read);
    var near = all.map(function (one) { return { item: one.item, fit: fit(one, said, known) }; });
    near.sort(function (a, b) { return b.fit - a.fit; });
    near.slice(0, near[0].fit >= 1 ? 1 : SHOWN).forEach(function (one) {
      if (one.fit < ALIKE) return;
      var copy = one.item.cloneNode(true);
      copy.removeAttribute("id");
      list.append(copy);
    });
    add_owner(said);
  });
})();
