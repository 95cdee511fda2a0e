"use strict";

const page = JSON.parse(document.getElementById("data").textContent);
const PAPER_WIDTH = 660; // pixels between the margins of A4

/* Libraries lie in the page as gzip in base64, and are unpacked when they are needed. */
async function unpack(name) {
  const packed = Uint8Array.from(atob(document.getElementById(name).textContent), char => char.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

/* The page's policy lets no script run but this one and what it makes. */
function run(code) {
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = URL.createObjectURL(new Blob([code], {type: "text/javascript"}));
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  });
}
