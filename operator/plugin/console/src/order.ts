// What will Profile now do? From the form to a session, to words, and to a command line. Pure.
import { isName, line } from './lines.ts';
import { seconds } from './sessions.ts';

/** What is in the form. */
export interface Form {
  namespace: string;
  /** `kind/name` of a policy, or empty. */
  policy: string;
  /** `Kind/name` of a workload, or empty: all apps of the policy. */
  app: string;
  /** Names of pods, separated by spaces or commas; instead of an app. */
  pods: string;
  kinds: string[];
  duration: string;
  frequency: string;
  note: string;
}

export const KINDS = ['cpu', 'wall', 'alloc', 'heap', 'lock', 'block', 'goroutine'];

export const EMPTY: Form = {
  namespace: '',
  policy: '',
  app: '',
  pods: '',
  kinds: ['cpu'],
  duration: '30s',
  frequency: '99',
  note: '',
};

export function policyOf(form: Form): { kind: string; name: string } | undefined {
  const [kind, name] = form.policy.split('/');
  return kind && name ? { kind, name } : undefined;
}

function pods(form: Form): string[] {
  return form.pods.split(/[\s,]+/).filter((pod) => pod !== '');
}

/** Why it cannot be sent; nothing if it can. What the API server alone knows is not checked here. */
export function problem(form: Form): string | undefined {
  if (form.namespace === '') return 'Choose a namespace.';
  const odd = misnamed(form);
  if (odd !== undefined)
    return `${JSON.stringify(odd)} is not a name: names have lower-case letters, digits, - and dots.`;
  if (!policyOf(form) && form.app === '' && pods(form).length === 0)
    return 'Choose a policy, an app or pods.';
  if (form.app !== '' && pods(form).length > 0) return 'Choose an app or pods, not both.';
  if (pods(form).length > 50) return 'A session has at most 50 pods.';
  if (form.kinds.length === 0) return 'Choose at least one kind of profile.';
  const length = /^(\d+(ms|h|m|s))+$/.test(form.duration) ? seconds(form.duration) : 0;
  if (length < 10 || length > 360) return 'The duration must be between 10s and 6m.';
  const frequency = Number(form.frequency);
  if (!Number.isInteger(frequency) || frequency < 1 || frequency > 1000)
    return 'The frequency must be between 1 and 1000 Hz.';
  if (new TextEncoder().encode(form.note).length > 512) return 'The note must have at most 512 bytes.';
  return undefined;
}

/** What in the form is no name. An address that somebody else wrote can fill in anything. */
function misnamed(form: Form): string | undefined {
  const names = [form.namespace, ...pods(form)];
  const found = names.find((name) => !isName(name));
  if (found !== undefined) return found;
  if (form.policy !== '' && !/^(Cluster)?ProfilingPolicy$/.test(kindOf(form.policy))) return form.policy;
  if (form.app !== '' && !/^[A-Z][A-Za-z0-9]*$/.test(kindOf(form.app))) return form.app;
  return [form.policy, form.app].find((of) => of !== '' && !isName(of.slice(kindOf(of).length + 1)));
}

/** The kind of `Kind/name`. */
function kindOf(text: string): string {
  return text.split('/')[0] ?? '';
}

/** The session that the form asks for. */
export function toSession(form: Form): object {
  const policyRef = policyOf(form);
  const [kind, name] = form.app.split('/');
  const named = pods(form);
  const target = name ? { workload: { kind, name } } : named.length > 0 ? { pods: named } : undefined;
  return {
    apiVersion: 'fleetprof.dev/v1alpha1',
    kind: 'ProfileSession',
    metadata: { namespace: form.namespace, generateName: `${base(form)}-now-` },
    spec: {
      ...(policyRef ? { policyRef } : {}),
      ...(target ? { target } : {}),
      duration: form.duration,
      profiles: form.kinds,
      frequencyHz: Number(form.frequency),
      ...(form.note ? { context: { note: form.note } } : {}),
    },
  };
}

/** What the name of the session begins with. */
function base(form: Form): string {
  const name = form.app.split('/')[1] || pods(form)[0] || policyOf(form)?.name || 'session';
  return (
    name
      .replace(/[^a-z0-9-]/g, '-')
      .slice(0, 40)
      .replace(/^-+|-+$/g, '') || 'session'
  );
}

/** The same as a command line; nothing for several pods, of which a command takes one. */
export function command(form: Form, flags: readonly string[]): string | undefined {
  const policy = policyOf(form);
  const named = pods(form);
  if (named.length > 1) return undefined;
  const ofPolicy = policy && `${policy.kind === 'ClusterProfilingPolicy' ? 'cppol/' : ''}${policy.name}`;
  const words = [
    ['kubectl', 'fleetprof', 'now'],
    // The kind keeps its case: a kind that the command has no other name for is known by it.
    form.app === '' ? named.map((pod) => `pod/${pod}`) : [form.app],
    ['-n', form.namespace],
    ofPolicy ? ['--policy', ofPolicy] : ['--no-policy'],
    ['--duration', form.duration, '--type', form.kinds.join(',')],
    form.frequency === '99' ? [] : ['--frequency', form.frequency],
    form.note === '' ? [] : ['--note', form.note],
  ];
  return line(words.flat(), flags);
}

/** What will happen, in words. `linked` is how many pods of the app can be profiled, if that is known. */
export function willHappen(form: Form, linked: number | undefined): string {
  const policy = policyOf(form);
  const number = pods(form).length;
  const what = form.app
    ? `pods of ${form.app}${linked === undefined ? '' : ` (${linked} can be profiled)`}`
    : number > 0
      ? `${number} pod${number === 1 ? '' : 's'}`
      : `pods of all apps that ${policy?.name ?? 'the policy'} links in ${form.namespace}`;
  const limit = policy && number === 0 ? ', as many as the policy picks of a workload' : '';
  const attach = policy ? '' : ' Pods without an agent get one attached, which stays until the pod ends.';
  return (
    `Records ${form.kinds.join(', ')} of ${what}${limit} for ${form.duration} at ${form.frequency} Hz. ` +
    `It starts within a second, and the apps run on.${attach}`
  );
}
