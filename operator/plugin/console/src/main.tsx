// Where does it start? The code of the link becomes a token; then the panes show what is followed.
import { render } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Api, begin, type Start, words } from './api/client.ts';
import { Apps } from './panes/apps.tsx';
import { Now } from './panes/now.tsx';
import { Profile } from './panes/profile.tsx';
import { Sessions } from './panes/sessions.tsx';
import { Triggers } from './panes/triggers.tsx';
import { codeIn, format, parse, type Route } from './route.ts';
import { active, api, dismiss, followAll, namespace, narrowed, route, start, toasts } from './state.ts';

/** The token outlives a reload of this tab, and no other tab gets it. */
const KEPT = 'fleetprof';

async function startUp(root: HTMLElement): Promise<void> {
  try {
    start.value = await enter();
    namespace.value = start.value.allNamespaces ? '' : start.value.namespace;
    api.value = new Api(start.value.token);
    followAll(api.value);
    render(<Page />, root);
  } catch (error) {
    render(<Locked problem={words(error)} />, root);
  }
}

async function enter(): Promise<Start> {
  const code = codeIn(location.hash);
  if (code !== undefined) {
    // The code is spent once it is used; it is not left in the history either.
    history.replaceState(null, '', format({ pane: 'sessions' }));
    route.value = parse(location.hash);
    const begun = await begin(code);
    sessionStorage.setItem(KEPT, JSON.stringify(begun));
    return begun;
  }
  const kept = sessionStorage.getItem(KEPT);
  if (kept === null)
    throw new Error('This tab has no access: open the link that kubectl fleetprof console prints.');
  return JSON.parse(kept) as Start;
}

function Locked(props: { problem: string }) {
  return (
    <main>
      <h1>fleetprof</h1>
      <p role="alert" class="bad">
        {props.problem}
      </p>
      <p>
        A link works once, in one tab. Press Enter in the terminal in which{' '}
        <code>kubectl fleetprof console</code> runs for another one.
      </p>
    </main>
  );
}

const PANES: [Route['pane'], string][] = [
  ['sessions', 'Sessions'],
  ['apps', 'Linked apps'],
  ['now', 'Profile now'],
  ['triggers', 'Triggers'],
];

const SHOWN = { sessions: Sessions, apps: Apps, now: Now, triggers: Triggers, profile: Profile };

/** A pane takes the focus when what had it is gone with the pane before, so that Tab goes on from there. */
function useFocus(place: string): void {
  const before = useRef(place);
  useEffect(() => {
    if (before.current === place) return;
    before.current = place;
    if (document.activeElement === document.body) document.getElementById('main')?.focus();
  }, [place]);
}

function Page() {
  const { pane, namespace: at, name } = route.value;
  const Pane = SHOWN[pane];
  useFocus(`${pane}/${at}/${name}`);
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById('main')?.focus()}>
        Skip to the content
      </button>
      <header>
        <strong>fleetprof</strong>
        <nav aria-label="Panes">
          {PANES.map(([id, title]) => (
            <a key={id} href={format({ pane: id })} aria-current={pane === id ? 'page' : undefined}>
              {title}
              {id === 'sessions' && active.value.length > 0 ? ` (${active.value.length})` : ''}
            </a>
          ))}
        </nav>
        <Namespace />
        <span title="Context of the kubeconfig">{start.value?.context}</span>
      </header>
      <main id="main" tabIndex={-1}>
        {narrowed.value && <p class="warn">{narrowed.value}</p>}
        <Pane />
      </main>
      <Toasts />
    </>
  );
}

function Namespace() {
  return (
    <label>
      Namespace{' '}
      <input
        value={namespace.value}
        placeholder="all"
        size={16}
        onChange={(event) => {
          namespace.value = event.currentTarget.value.trim();
          narrowed.value = '';
        }}
      />
    </label>
  );
}

function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map(({ id, text, href, tone }) => (
        <p key={id} class={`toast ${tone}`}>
          {href ? <a href={href}>{text}</a> : text}
          <button type="button" aria-label="Dismiss" onClick={() => dismiss(id)}>
            ×
          </button>
        </p>
      ))}
    </div>
  );
}

// A link that is pasted into a tab of the console changes the fragment only, which loads nothing.
window.addEventListener('hashchange', () => {
  if (codeIn(location.hash) !== undefined) location.reload();
});
void startUp(document.getElementById('app')!);
