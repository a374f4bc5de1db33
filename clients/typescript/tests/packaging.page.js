// Opens app.js in a page of happy-dom, whose URL is the argument, and presses its button twice. Prints the text of the
// button before, between and after.

const { Window } = await import(process.argv[2]);
const window = new Window({ url: 'http://localhost:3000' });
const globals = { window, document: window.document, localStorage: window.localStorage, navigator: window.navigator };
for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value });
document.body.innerHTML = '<div id="root"></div>';

/** Waits until the text of the button has changed, and returns it. */
async function textAfter(before) {
  for (;;) {
    const text = document.querySelector('button')?.textContent;
    if (text && text !== before && !text.includes('Sign  out')) return text;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

await import('./app.js');
const seen = [await textAfter()];
for (let press = 0; press < 2; press++) {
  document.querySelector('button').click();
  seen.push(await textAfter(seen.at(-1)));
}
console.log(JSON.stringify(seen));
process.exit();
