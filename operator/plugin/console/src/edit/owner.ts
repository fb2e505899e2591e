// Does a GitOps tool or Helm manage the policy, and revert what is changed here? Pure.
import type { Policy } from '../api/types.ts';

/** A tool that applies the policy. */
export interface Owner {
  tool: 'Argo CD' | 'Flux' | 'Helm';
  /** Which application or release; empty if that is not known. */
  of: string;
}

const FLUX = ['kustomize.toolkit.fluxcd.io', 'helm.toolkit.fluxcd.io'];
/** The field managers of the tools. */
const MANAGERS: readonly [RegExp, Owner['tool']][] = [
  [/^argocd-(application-)?controller$/, 'Argo CD'],
  [/^(kustomize|helm)-controller$/, 'Flux'],
  [/^helm$/, 'Helm'],
];

/** The tool that applies a policy, by the labels, annotations and field managers that it leaves. */
export function ownerOf({ metadata }: Policy): Owner | undefined {
  const { labels = {}, annotations = {}, managedFields = [] } = metadata;
  const argo = annotations['argocd.argoproj.io/tracking-id']?.split(':')[0];
  const instance = argo ?? labels['argocd.argoproj.io/instance'];
  if (instance !== undefined) return { tool: 'Argo CD', of: instance };
  for (const prefix of FLUX) {
    const name = labels[`${prefix}/name`];
    const namespace = labels[`${prefix}/namespace`];
    if (name !== undefined) return { tool: 'Flux', of: namespace ? `${namespace}/${name}` : name };
  }
  const release = annotations['meta.helm.sh/release-name'];
  if (release !== undefined) return { tool: 'Helm', of: release };
  for (const { manager, subresource } of managedFields) {
    const [, tool] = MANAGERS.find(([pattern]) => pattern.test(manager)) ?? [];
    if (tool && !subresource) return { tool, of: '' };
  }
  return undefined;
}

/** What becomes of a change that is made here. */
export function warning({ tool, of }: Owner): string {
  const name = of === '' ? tool : `${tool} (${of})`;
  const then =
    tool === 'Helm'
      ? 'its next upgrade may revert what you change here.'
      : 'it will revert what you change here, or report it as drift.';
  return `${name} manages this policy: ${then} Change it in your repository instead, with the patch below.`;
}
