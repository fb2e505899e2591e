// The form of one policy: when it profiles, and what its changes do before they are applied.
import { useSignal } from '@preact/signals';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { refuses, words } from '../api/client.ts';
import { toEdit } from '../api/rights.ts';
import type { Policy } from '../api/types.ts';
import { carried } from '../edit/carried.ts';
import {
  at,
  type Edits,
  type Field as FieldOf,
  type Group,
  groups,
  isOn,
  problemIn,
  trouble,
  valueAt,
} from '../edit/fields.ts';
import { ownerOf, warning } from '../edit/owner.ts';
import { asYaml, changes } from '../edit/patch.ts';
import { type Conflict, conflictsIn, send, tryOut } from '../edit/send.ts';
import { kindOf } from '../edit/yaml.ts';
import { clean, cleanLines } from '../flame/format.ts';
import { Button, Copy, Field, useRights, useSettled } from '../parts.tsx';
import { api, learn, toast } from '../state.ts';

/** What the API server says to the change. */
interface Opinion {
  conflicts: readonly Conflict[];
  refusal: string;
}

const NONE: Opinion = { conflicts: [], refusal: '' };

interface Part {
  policy: Policy;
  edits: Edits;
  set: (path: string, value: string) => void;
}

export function Edit({ policy }: { policy: Policy }) {
  const edits = useSignal<Edits>({});
  const opinion = useSignal(NONE);
  const busy = useSignal(false);
  const set = (path: string, value: string) => {
    edits.value = { ...edits.value, [path]: value };
  };
  useCarried(policy, edits);
  const wrong = problemIn(policy, edits.value);
  const none = changes(policy, edits.value).size === 0;
  const rights = useRights(toEdit(policy.metadata));
  useOpinion(policy, edits.value, none || wrong !== undefined || !rights.allowed, opinion);
  const { refusal, conflicts } = opinion.value;
  const refused = refusal === '' ? undefined : `The API server rejects it: ${refusal}`;
  const forbidden = rights.allowed ? undefined : rights.reason;
  const reason = forbidden ?? (none ? 'There is nothing to apply.' : (wrong ?? refused));
  const apply = async () => {
    busy.value = true;
    try {
      learn(await send(api.value!, policy, edits.value, conflicts.length > 0 ? { force: 'true' } : {}));
      edits.value = {};
      toast(`${policy.metadata.name} has been changed.`, 'good');
    } catch (error) {
      hear(error, opinion);
    } finally {
      busy.value = false;
    }
  };
  const part = { policy, edits: edits.value, set };
  return (
    <form
      aria-label={`Policy ${policy.metadata.name}`}
      onSubmit={(event) => {
        event.preventDefault();
        if (reason === undefined && !busy.value) void apply();
      }}
    >
      <Head policy={policy} />
      {groups(policy, edits.value).map((group) => (
        <Groups key={group.id} group={group} {...part} />
      ))}
      <Changes {...part} opinion={opinion.value} />
      <p class="choices">
        <Button primary busy={busy.value} reason={reason}>
          {conflicts.length > 0 ? 'Apply and take over these fields' : 'Apply'}
        </Button>
        {!none && (
          <button
            type="button"
            onClick={() => {
              edits.value = {};
            }}
          >
            Discard changes
          </button>
        )}
      </p>
    </form>
  );
}

/** Keeps what was typed with its alert or query when somebody changes the policy meanwhile. */
function useCarried(policy: Policy, edits: { value: Edits }): void {
  const before = useRef(policy);
  // Before it is painted, and before anything is sent.
  useLayoutEffect(() => {
    edits.value = carried(before.current, policy, edits.value);
    before.current = policy;
  }, [policy]);
}

/** A rejection stays beside the button until something changes; a lost connection is only reported. */
function hear(error: unknown, opinion: { value: Opinion }): void {
  const conflicts = conflictsIn(error);
  if (conflicts.length > 0) opinion.value = { conflicts, refusal: '' };
  else if (refuses(error)) opinion.value = { conflicts: [], refusal: words(error) };
  else toast(`The API server could not be reached: ${words(error)}`, 'bad');
}

/** Tries the change as a dry run, once the form is left alone. */
function useOpinion(policy: Policy, edits: Edits, none: boolean, opinion: { value: Opinion }): void {
  const forget = () => {
    opinion.value = NONE;
  };
  const ask = () =>
    tryOut(api.value!, policy, edits).then(
      (conflicts) => () => {
        opinion.value = { conflicts, refusal: '' };
      },
      (error: unknown) => () => hear(error, opinion),
    );
  useSettled(JSON.stringify([policy.spec, edits]), none, forget, ask);
}

/** Which policy it is, and which tool manages it. */
function Head({ policy }: { policy: Policy }) {
  const owner = ownerOf(policy);
  const { name, namespace } = policy.metadata;
  return (
    <>
      <h2>
        {name}{' '}
        <small>
          {kindOf(policy)}
          {namespace ? ` in ${namespace}` : ''}
        </small>
      </h2>
      {owner && (
        <p role="note" class="warn">
          {clean(warning(owner))}
        </p>
      )}
    </>
  );
}

/** The fields of a group; those of a trigger that is off are not shown. */
function Groups({ group, policy, edits, set }: Part & { group: Group }) {
  const on = group.trigger === undefined || isOn(policy, edits, group.trigger);
  const title = clean(group.title);
  return (
    <fieldset class={on ? 'group' : 'group off'}>
      <legend>
        {group.trigger === undefined ? (
          title
        ) : (
          <label>
            <input
              type="checkbox"
              checked={on}
              onChange={(event) => set(group.trigger!, event.currentTarget.checked ? 'on' : '')}
            />
            {title}
          </label>
        )}
      </legend>
      {on && (
        <div class="fields">
          {group.fields.map((field) => (
            <Input key={field.path} field={field} group={group} policy={policy} edits={edits} set={set} />
          ))}
        </div>
      )}
    </fieldset>
  );
}

function Input({ field, group, policy, edits, set }: Part & { field: FieldOf; group: Group }) {
  const initial = group.initial?.[field.path.slice((group.trigger?.length ?? 0) + 1)];
  const value = valueAt(policy, edits, field.path) || String(initial ?? '');
  const wrong = edits[field.path] === undefined ? undefined : trouble(field, edits[field.path]!);
  if (field.kind === 'switch')
    return (
      <label class="field">
        <span>{field.label}</span>
        <input
          type="checkbox"
          checked={value === 'true'}
          onChange={(event) => set(field.path, String(event.currentTarget.checked))}
        />
      </label>
    );
  return (
    <Field label={field.label} hint={field.hint ?? ''}>
      {field.kind === 'choice' ? (
        <select value={value} onChange={(event) => set(field.path, event.currentTarget.value)}>
          {(field.choices ?? []).map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      ) : (
        <input
          value={value}
          size={field.kind === 'text' ? 20 : 8}
          inputMode={field.kind === 'number' ? 'numeric' : 'text'}
          aria-invalid={wrong !== undefined}
          onInput={(event) => set(field.path, event.currentTarget.value.trim())}
        />
      )}
    </Field>
  );
}

/** What will change, who else has set it, and the change as a patch for a repository. */
function Changes({ policy, edits, opinion }: Part & { opinion: Opinion }) {
  const changed = [...changes(policy, edits)];
  if (changed.length === 0) return null;
  const shown = (value: unknown) => (value === undefined ? 'nothing' : JSON.stringify(value));
  const yaml = asYaml(policy, edits);
  return (
    <>
      <h3>What will change</h3>
      <ul>
        {changed.map(([path, value]) => (
          <li key={path}>
            <code>spec.{path}</code>: {clean(shown(at(policy.spec, path)))} → {clean(shown(value))}
          </li>
        ))}
      </ul>
      {opinion.conflicts.length > 0 && (
        <div role="note" class="warn">
          Other field managers have set:
          <ul>
            {opinion.conflicts.map(({ field, message }) => (
              <li key={field + message}>
                <code>{clean(field)}</code>: {clean(message)}
              </li>
            ))}
          </ul>
        </div>
      )}
      <details open={ownerOf(policy) !== undefined}>
        <summary>The change as YAML</summary>
        <pre>{cleanLines(yaml)}</pre>
        <Copy text={yaml} what="the change as YAML" />
        <p class="message">
          For Kustomize as a patch, or for <code>kubectl patch --type=merge --patch-file</code>. A null
          removes the field.
        </p>
      </details>
    </>
  );
}
