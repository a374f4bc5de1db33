import type { Chain } from './chain.js';
import { svg } from './dom.js';
import { number } from './format.js';
import type { Actor } from './wire.js';

// In pixels. The height is the same as in style.css.
const HEIGHT = 216;
const LINE = 92; // the height of the chain
const RADIUS = 18;
const MARGIN = 30;

/** Draws the chain of generations, with lost answers and replays. */
export function draw(picture: SVGSVGElement, chain: Chain, width: number): void {
  const space = width < 480 ? 76 : 108; // between generations
  const slots = Math.max(2, Math.floor((width - 2 * MARGIN) / space) + 1);
  const earlier = chain.newest > slots ? chain.newest - (slots - 1) : 0;
  const oldest = earlier + 1;
  const x = (generation: number) => MARGIN + (generation - oldest + (earlier > 0 ? 1 : 0)) * space;

  picture.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
  picture.setAttribute('aria-label', chain.describe());
  picture.classList.toggle('over', chain.isOver);
  picture.replaceChildren();

  if (earlier > 0) {
    picture.append(
      svg('rect', { class: 'earlier', x: `${MARGIN - 24}`, y: `${LINE - 13}`, width: '48', height: '26', rx: '13' }),
      text(MARGIN, LINE + 5, `+${number(earlier)}`, 'count'),
      text(MARGIN, LINE + RADIUS + 17, 'earlier', 'note'),
    );
  }
  for (let generation = Math.max(1, earlier); generation < chain.newest; generation += 1) {
    const from = generation < oldest ? MARGIN + 24 : x(generation) + RADIUS;
    const to = x(generation + 1) - RADIUS;
    picture.append(...link(chain, generation, from, to));
  }
  for (let generation = oldest; generation <= chain.newest; generation += 1) {
    picture.append(node(chain, generation, x(generation)));
  }
  const { replay } = chain;
  if (replay) picture.append(branch(replay.actor, Math.max(MARGIN, x(replay.generation)), space, width));
  if (chain.isOver) {
    const left = earlier > 0 ? MARGIN - 24 : x(oldest) - RADIUS;
    const right = x(chain.newest) + RADIUS;
    picture.append(
      svg('path', { class: 'strike', d: `M${left - 9} ${LINE + 9}L${right + 9} ${LINE - 9}` }),
      text(width - 6, 18, '✕ session ended', 'ending', 'end'),
    );
  }
}

function node(chain: Chain, generation: number, x: number): SVGGElement {
  const { held, newest, isOver } = chain;
  const isLost = generation === newest && generation > held;
  const state = isOver ? 'dead' : isLost ? 'ghost' : generation === newest ? 'in-force' : 'spent';
  const isStillHeld = isLost === false && generation === held && generation < newest;
  const word = isOver ? '' : isLost ? 'lost' : isStillHeld ? 'still held' : state === 'in-force' ? 'valid' : 'spent';
  return svg(
    'g',
    { class: `node ${state}` },
    svg('circle', { cx: `${x}`, cy: `${LINE}`, r: `${RADIUS}` }),
    text(x, LINE + 5, number(generation), 'generation'),
    text(x, LINE + RADIUS + 17, word, 'note'),
  );
}

/** Draws the link from one generation to the next: a line if an answer arrived, an arc for a lost answer. */
function link(chain: Chain, generation: number, from: number, to: number): SVGElement[] {
  const { key, lost, arrived } = chain.rotations.get(generation) ?? { key: undefined, lost: 0, arrived: true };
  const isKnown = chain.rotations.has(generation);
  const middle = (from + to) / 2;
  const parts: SVGElement[] = [];
  if (lost > 0) {
    const top = LINE - 54;
    parts.push(
      svg('path', { class: 'lost', d: `M${from - 6} ${LINE - 14}Q${middle} ${top - 18} ${to + 3} ${LINE - 16}` }),
      text(middle, top + 15, '✕', 'lost-mark'),
      text(middle, top - 4, 'answer lost', 'note'),
    );
  }
  if (arrived) {
    parts.push(svg('path', { class: 'link', d: `M${from} ${LINE}H${to - 2}` }), arrow(to, LINE));
    if (lost > 0) parts.push(text(middle, LINE + 16, 'retry', 'note'));
  }
  if (isKnown) parts.push(...mark(middle, key, to - from > 60));
  return parts;
}

/** Draws the Idempotency-Key of an attempt, or a note that it had none. */
function mark(x: number, key: string | undefined, isWide: boolean): SVGElement[] {
  const y = LINE - 9;
  if (key === undefined) return [text(x, y, 'no key', 'note naive')];
  if (!isWide) return [text(x, y, key, 'note code')];
  return [
    svg('path', { class: 'key', d: `M${x - 22} ${y - 3.5}a3 3 0 1 1 6 0a3 3 0 1 1-6 0M${x - 16} ${y - 3.5}h7m-2 0v3` }),
    text(x - 5, y, key, 'note code', 'start'),
  ];
}

function arrow(x: number, y: number): SVGElement {
  return svg('path', { class: 'tip', d: `M${x - 1} ${y}l-7-4.5v9z` });
}

/** Draws the branch that a replay would have started if it had not been refused. */
function branch(actor: Actor, from: number, space: number, width: number): SVGGElement {
  const x = from + space / 2;
  const y = LINE + 82;
  const isRight = x + 140 <= width; // room for the words
  const side = isRight ? x + 22 : x - 22;
  const anchor = isRight ? 'start' : 'end';
  const shape = actor === 'thief' ? `M${x} ${y - 15}l15 15l-15 15l-15-15z` : `M${x - 12} ${y - 12}h24v24h-24z`;
  return svg(
    'g',
    { class: `branch ${actor}` },
    svg('path', {
      class: 'fork',
      d: `M${from + 13} ${LINE + 14}C${from + 34} ${LINE + 34} ${x} ${LINE + 36} ${x} ${y - 24}`,
    }),
    svg('path', { class: 'tip', d: `M${x} ${y - 16}l-4.5-8h9z` }),
    svg('path', { class: 'shape', d: shape }),
    text(x, y + 5, actor === 'thief' ? '!' : '?', 'generation'),
    text(side, y - 3, actor === 'thief' ? 'thief' : 'client, no key', 'who', anchor),
    text(side, y + 13, 'refused: 401', 'note', anchor),
  );
}

function text(x: number, y: number, words: string, kind: string, anchor = 'middle'): SVGTextElement {
  return svg('text', { class: kind, x: `${x}`, y: `${y}`, 'text-anchor': anchor }, words);
}
