//! Enumerations with a list of their variants: each variant is written once.

/// Defines an enum of plain variants, and its constant `ALL` with all of them in order.
macro_rules! listed_enum {
    (
        $(#[$of_enum:meta])*
        $vis:vis enum $name:ident {
            $($(#[$of_variant:meta])* $variant:ident),+ $(,)?
        }
        $(#[$of_all:meta])*
        $all_vis:vis const ALL;
    ) => {
        $(#[$of_enum])*
        $vis enum $name {
            $($(#[$of_variant])* $variant),+
        }

        impl $name {
            $(#[$of_all])*
            $all_vis const ALL: [$name; [$(stringify!($variant)),+].len()] =
                [$($name::$variant),+];
        }
    };
}

pub(crate) use listed_enum;
