//! Puts every mutant of a file behind a switch.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Block, Expr, parse_quote};

use crate::list::{Mutant, Place};

/// Returns the file with a switch for each of these mutants, as source code, and the
/// numbers of those that found no place in it.
pub fn instrument(source: &str, mutants: &[(usize, &Mutant)]) -> syn::Result<(String, Vec<usize>)> {
    let mut file = syn::parse_file(source)?;
    let mut switches = Switches { left: mutants.to_vec() };
    switches.visit_file_mut(&mut file);
    let left = switches.left.into_iter().map(|(number, _)| number).collect();
    Ok((file.into_token_stream().to_string(), left))
}

struct Switches<'a> {
    /// The mutants that have no switch yet.
    left: Vec<(usize, &'a Mutant)>,
}

impl Switches<'_> {
    /// Takes the mutants of this genre at this place: their numbers and replacements.
    fn take(&mut self, genre: &str, span: Span) -> Vec<(TokenStream, TokenStream)> {
        let place = Place::of(span);
        let (taken, left) =
            self.left.iter().copied().partition(|(_, mutant)| mutant.genre == genre && mutant.span.start == place);
        self.left = left;
        let taken: Vec<(usize, &Mutant)> = taken;
        let parse = |(number, mutant): (usize, &Mutant)| {
            let switch = quote!(crate::mutant::on(#number));
            (switch, mutant.replacement.parse().unwrap_or_default())
        };
        taken.into_iter().map(parse).collect()
    }

    /// Lets the body of a function return early with each replacement. `start` is where
    /// the body starts in the source.
    fn body(&mut self, block: &mut Block, start: Option<Span>) {
        for (switch, value) in start.into_iter().flat_map(|start| self.take("FnValue", start)) {
            block.stmts.insert(0, parse_quote!(if #switch { return #value; }));
        }
    }
}

fn start(block: &Block) -> Option<Span> {
    block.stmts.first().map(Spanned::span)
}

/// Returns whether it has `if let` or a chain of them, which can be nowhere else.
fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

impl VisitMut for Switches<'_> {
    fn visit_item_fn_mut(&mut self, item: &mut syn::ItemFn) {
        let start = start(&item.block);
        visit_mut::visit_item_fn_mut(self, item);
        self.body(&mut item.block, start);
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut syn::ImplItemFn) {
        let start = start(&item.block);
        visit_mut::visit_impl_item_fn_mut(self, item);
        self.body(&mut item.block, start);
    }

    fn visit_trait_item_fn_mut(&mut self, item: &mut syn::TraitItemFn) {
        let start = item.default.as_ref().and_then(start);
        visit_mut::visit_trait_item_fn_mut(self, item);
        if let Some(block) = &mut item.default {
            self.body(block, start);
        }
    }

    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        visit_mut::visit_expr_mut(self, expr);
        match expr {
            Expr::Binary(binary) if !has_let(&binary.left) && !has_let(&binary.right) => {
                let (left, operator, right) = (binary.left.clone(), binary.op, binary.right.clone());
                for (switch, other) in self.take("BinaryOperator", operator.span()) {
                    *expr = parse_quote!((if #switch { #left #other #right } else { #expr }));
                }
            }
            Expr::Unary(unary) => {
                let (operator, operand) = (unary.op, unary.expr.clone());
                for (switch, _) in self.take("UnaryOperator", operator.span()) {
                    *expr = parse_quote!((if #switch { #operand } else { #expr }));
                }
            }
            Expr::Struct(literal) => {
                let Some(rest) = &literal.rest else { return };
                for field in &mut literal.fields {
                    for (switch, _) in self.take("StructField", field.member.span()) {
                        let (member, value) = (&field.member, &field.expr);
                        field.expr = parse_quote!(if #switch { (#rest).#member } else { #value });
                        field.colon_token.get_or_insert_default();
                    }
                }
            }
            _ => {}
        }
    }

    fn visit_arm_mut(&mut self, arm: &mut syn::Arm) {
        let (start, guard) = (arm.span(), arm.guard.as_ref().map(|(_, guard)| guard.span()));
        visit_mut::visit_arm_mut(self, arm);
        if let (Some(span), Some((_, guard))) = (guard, &mut arm.guard) {
            for (switch, value) in self.take("MatchArmGuard", span) {
                **guard = parse_quote!((if #switch { #value } else { #guard }));
            }
        }
        for (switch, _) in self.take("MatchArm", start) {
            arm.guard = Some(match arm.guard.take() {
                Some((token, guard)) => (token, parse_quote!(!#switch && (#guard))),
                None => (Default::default(), parse_quote!(!#switch)),
            });
        }
    }
}
