// Opens app.js in a page, by the happy-dom at the address that is given, and presses its button twice. Prints the
// button's words before, between and after.

const { Window } = await import(process.argv[2]);
const window = new Window({ url: 'http://localhost:3000' });
const globals = { window, document: window.document, localStorage: window.localStorage, navigator: window.navigator };
for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value });
document.body.innerHTML = '<div id="root"></div>';

/** The button's words, once there is one that says something else than before. */
async function wordsAfter(before) {
  for (;;) {
    const words = document.querySelector('button')?.textContent;
    if (words && words !== before && !words.includes('Sign  out')) return words;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

await import('./app.js');
const seen = [await wordsAfter()];
for (let press = 0; press < 2; press++) {
  document.querySelector('button').click();
  seen.push(await wordsAfter(seen.at(-1)));
}
console.log(JSON.stringify(seen));
process.exit();
