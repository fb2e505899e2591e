// The bar over a flame graph: search, views and filters.
import { WORDS } from '../flame/filter.ts';
import { route, setParams } from '../state.ts';

interface SearchProps {
  box: { current: HTMLInputElement | null };
  /** What was found, in words. */
  count: string;
  problem: string | undefined;
  any: boolean;
  match: (step: 1 | -1) => void;
  /** Whether the profile is compared with another one. */
  compared: boolean;
}

/** The views; one of a comparison cannot be turned upside down. */
const VIEWS: readonly [string, string][] = [
  ['', 'Graph'],
  ['tree', 'Call tree'],
  ['table', 'Table'],
  ['inverted', 'Inverted'],
];

export function Search({ box, count, problem, any, match, compared }: SearchProps) {
  const { params } = route.value;
  const graph = !['table', 'tree'].includes(params.view ?? '');
  return (
    <div class="search">
      <label>
        Search{' '}
        <input
          ref={box}
          type="search"
          value={params.q ?? ''}
          placeholder="function, as text or pattern"
          onInput={(event) => setParams({ q: event.currentTarget.value })}
          onKeyDown={(event) => {
            if (event.key !== 'Enter') return;
            event.preventDefault();
            match(event.shiftKey ? -1 : 1);
          }}
        />
      </label>
      <button type="button" disabled={!any} onClick={() => match(-1)} aria-label="Previous match">
        ◂
      </button>
      <button type="button" disabled={!any} onClick={() => match(1)} aria-label="Next match">
        ▸
      </button>
      <output>{count}</output>
      {problem && <small class="warn">{problem}</small>}
      <span class="space" />
      <Views compared={compared} />
      {graph && !params.of && <Toggle name="flip" on="up" text="Root at the bottom" />}
    </div>
  );
}

function Views({ compared }: { compared: boolean }) {
  const { params } = route.value;
  const now = params.of ? 'sandwich' : (params.view ?? '');
  return (
    <fieldset class="tabs">
      <legend class="hidden">View</legend>
      {VIEWS.filter(([id]) => !compared || id !== 'inverted').map(([id, title]) => (
        <button
          key={id}
          type="button"
          aria-pressed={now === id}
          onClick={() => setParams({ view: id, of: '' }, false)}
        >
          {title}
        </button>
      ))}
    </fieldset>
  );
}

function Toggle(props: { name: string; on: string; text: string }) {
  const pressed = route.value.params[props.name] === props.on;
  return (
    <button
      type="button"
      aria-pressed={pressed}
      onClick={() => setParams({ [props.name]: pressed ? '' : props.on }, false)}
    >
      {props.text}
    </button>
  );
}

interface FiltersProps {
  compared: boolean;
  problem: string | undefined;
  /** Whether the app's own code is known. */
  own: boolean;
}

/** Which part of the profile is looked at. */
export function Filters({ compared, problem, own }: FiltersProps) {
  const { params } = route.value;
  const why = compared
    ? 'Comparisons cannot be filtered: what may be chance is known for whole profiles only.'
    : own
      ? ''
      : 'Your own code is known only where all targets have the same runtime, and a known one.';
  return (
    <div class="search">
      <label>
        Filter{' '}
        <input
          type="search"
          size={36}
          value={params.f ?? ''}
          disabled={compared}
          placeholder="SS: orders HF: json"
          aria-describedby="words"
          onInput={(event) => setParams({ f: event.currentTarget.value })}
        />
      </label>
      <span class="action">
        <button
          type="button"
          aria-pressed={params.mine === '1'}
          aria-disabled={why !== ''}
          aria-describedby={why ? 'mine' : undefined}
          onClick={() => why === '' && setParams({ mine: params.mine === '1' ? '' : '1' }, false)}
        >
          My code
        </button>
        {why && (
          <small id="mine" class="reason">
            {why}
          </small>
        )}
      </span>
      {problem && <small class="warn">{problem}</small>}
      <details>
        <summary>Filter words</summary>
        <dl id="words" class="keys">
          {WORDS.map(([word, long, what]) => (
            <div key={word}>
              <dt>
                {word}: {long}
              </dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
      </details>
    </div>
  );
}
