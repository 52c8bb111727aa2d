//! The table of a plugin's verbs.

/// Makes a plugin of the functions that do its verbs.
///
/// ```
/// use pontoon_plugin::{AddResult, Context, Error};
///
/// fn add(context: &Context) -> Result<AddResult, Error> {
///     Ok(context.config.prev_result.clone().unwrap_or_default())
/// }
///
/// fn nothing(_: &Context) -> Result<(), Error> {
///     Ok(())
/// }
///
/// pontoon_plugin::plugin! {
///     /// Passes on what the plugins before it have made.
///     pub struct Idle = "idle";
///     add: add,
///     del: nothing,
///     check: nothing,
/// }
/// ```
///
/// Constants of [`Plugin`](crate::Plugin) that are true stand in brackets after the name.
#[macro_export]
macro_rules! plugin {
    (
        $(#[$doc:meta])*
        $visibility:vis struct $type:ident = $name:literal $([$($constant:ident),*])?;
        $($verb:ident: $function:expr,)*
    ) => {
        $(#[$doc])*
        $visibility struct $type;

        impl $crate::Plugin for $type {
            const NAME: &'static str = $name;
            $($(const $constant: bool = true;)*)?
            $($crate::plugin!(@ $verb $function);)*
        }
    };
    (@ add $function:expr) => {
        fn add(&self, context: &$crate::Context) -> Result<$crate::AddResult, $crate::Error> {
            $function(context)
        }
    };
    (@ changed $function:expr) => {
        fn changed(&self, context: &$crate::Context) {
            $function(context);
        }
    };
    (@ $verb:ident $function:expr) => {
        fn $verb(&self, context: &$crate::Context) -> Result<(), $crate::Error> {
            $function(context)
        }
    };
}
