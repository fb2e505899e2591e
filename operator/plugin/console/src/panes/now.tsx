// The pane Profile now: what to record, what will happen, what the API server says to it before it happens.
import { useSignal } from '@preact/signals';
import { refuses, words } from '../api/client.ts';
import { list } from '../api/paths.ts';
import { toProfile } from '../api/rights.ts';
import type { Session } from '../api/types.ts';
import { command, EMPTY, type Form, KINDS, policyOf, problem, toSession, willHappen } from '../order.ts';
import { Button, Command, Field, PoliciesState, useSettled } from '../parts.tsx';
import { apps } from '../sessions.ts';
import { allPolicies, api, go, namespace, route, start, toast } from '../state.ts';

export function Now() {
  const { params } = route.value;
  const form = useSignal<Form>({
    ...EMPTY,
    namespace: params.namespace ?? (namespace.value || start.value?.namespace || ''),
    policy: params.policy ?? '',
    app: params.app ?? '',
    pods: params.pods ?? '',
  });
  const opinion = useSignal('');
  const busy = useSignal(false);
  const set = (change: Partial<Form>) => {
    form.value = { ...form.value, ...change };
  };
  const trouble = problem(form.value);
  useOpinion(form.value, trouble, opinion);
  const reason =
    trouble ?? (opinion.value === '' ? undefined : `The API server rejects it: ${opinion.value}`);
  const submit = () => {
    if (reason === undefined && !busy.value) void send(form.value, busy, opinion);
  };
  return (
    <>
      <h1>Profile now</h1>
      <PoliciesState />
      <form
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
        <What form={form.value} set={set} />
        <How form={form.value} set={set} />
        <Then form={form.value} trouble={trouble} reason={reason} busy={busy.value} />
      </form>
    </>
  );
}

/** Creates the session and goes to its profile, or says why it was not created. */
async function send(form: Form, busy: { value: boolean }, opinion: { value: string }): Promise<void> {
  busy.value = true;
  try {
    const made = await api.value!.post<Session>(list('profilesessions', form.namespace), toSession(form));
    toast(`${made.metadata.name} has been created.`, 'good');
    go({ pane: 'profile', namespace: made.metadata.namespace ?? '', name: made.metadata.name });
  } catch (error) {
    hear(error, opinion);
  } finally {
    busy.value = false;
  }
}

/** A rejection disables the button until the form changes; a lost connection is only reported. */
function hear(error: unknown, opinion: { value: string }): void {
  if (refuses(error)) opinion.value = words(error);
  else toast(`The API server could not be reached: ${words(error)}`, 'bad');
}

interface ThenProps {
  form: Form;
  trouble: string | undefined;
  reason: string | undefined;
  busy: boolean;
}

/** What will happen, and the button that starts it. */
function Then({ form, trouble, reason, busy }: ThenProps) {
  const line = trouble ? undefined : command(form, start.value?.flags ?? []);
  const rights = form.namespace ? toProfile(form.namespace, policyOf(form)) : [];
  return (
    <>
      <h2>What will happen</h2>
      <p>{trouble ? 'Nothing yet.' : willHappen(form, linkedPods(form))}</p>
      <Button primary busy={busy} reason={reason} rights={rights}>
        Profile now
      </Button>
      {line && <Command line={line} />}
    </>
  );
}

/** Tries the session as a dry run, once the form is left alone. */
function useOpinion(form: Form, trouble: string | undefined, opinion: { value: string }): void {
  const forget = () => {
    opinion.value = '';
  };
  const ask = () =>
    api.value!.post(`${list('profilesessions', form.namespace)}?dryRun=All`, toSession(form)).then(
      () => () => {},
      (error: unknown) => () => hear(error, opinion),
    );
  useSettled(JSON.stringify(form), trouble !== undefined, forget, ask);
}

/** The apps that can be chosen: those of the policy and namespace. */
function choices(form: Form) {
  const policy = policyOf(form);
  return apps(allPolicies.value, []).filter(
    (row) =>
      row.namespace === form.namespace &&
      (!policy || (row.policy.kind === policy.kind && row.policy.name === policy.name)),
  );
}

function linkedPods(form: Form): number | undefined {
  return choices(form).find(({ app }) => `${app.kind}/${app.name}` === form.app)?.app.linked;
}

interface Part {
  form: Form;
  set: (change: Partial<Form>) => void;
}

function What({ form, set }: Part) {
  const known = allPolicies.value.filter(
    ({ metadata }) => !metadata.namespace || metadata.namespace === form.namespace,
  );
  const names = new Set(choices(form).map(({ app }) => `${app.kind}/${app.name}`));
  if (form.app) names.add(form.app);
  const values = known.map(({ metadata }) => ({
    value: `${metadata.namespace ? 'ProfilingPolicy' : 'ClusterProfilingPolicy'}/${metadata.name}`,
    text: metadata.namespace ? metadata.name : `${metadata.name} (cluster)`,
  }));
  return (
    <div class="fields">
      <Field label="Namespace">
        <input
          required
          value={form.namespace}
          onChange={(event) => set({ namespace: event.currentTarget.value.trim(), policy: '', app: '' })}
        />
      </Field>
      <Field label="Policy">
        <select value={form.policy} onChange={(event) => set({ policy: event.currentTarget.value })}>
          <option value="">none</option>
          {values.map(({ value, text }) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      </Field>
      <Field label="App">
        <select value={form.app} onChange={(event) => set({ app: event.currentTarget.value })}>
          <option value="">{form.policy ? 'all apps of the policy' : 'none'}</option>
          {[...names].map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </Field>
      <Field label="Or pods, by name">
        <input value={form.pods} onInput={(event) => set({ pods: event.currentTarget.value })} />
      </Field>
    </div>
  );
}

function How({ form, set }: Part) {
  const toggle = (kind: string, on: boolean) =>
    set({ kinds: KINDS.filter((known) => (known === kind ? on : form.kinds.includes(known))) });
  return (
    <div class="fields">
      <fieldset class="choices">
        <legend>Kinds</legend>
        {KINDS.map((kind) => (
          <label key={kind}>
            <input
              type="checkbox"
              checked={form.kinds.includes(kind)}
              onChange={(event) => toggle(kind, event.currentTarget.checked)}
            />
            {kind}
          </label>
        ))}
      </fieldset>
      <Field label="Duration" hint="10s to 6m">
        <input
          value={form.duration}
          onInput={(event) => set({ duration: event.currentTarget.value.trim() })}
        />
      </Field>
      <Field label="Samples per second" hint="1 to 1000">
        <input
          inputMode="numeric"
          value={form.frequency}
          onInput={(event) => set({ frequency: event.currentTarget.value.trim() })}
        />
      </Field>
      <Field label="Note" hint="for whoever reads the session later">
        <input value={form.note} onInput={(event) => set({ note: event.currentTarget.value })} />
      </Field>
    </div>
  );
}
