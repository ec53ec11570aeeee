//! What can be wrong with an expression.

/// The sort of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The text is not an expression.
    Syntax,
    /// A name that nobody gave.
    Name,
    /// A field or method that the value does not have.
    Attribute,
    /// A value of the wrong type.
    Type,
    /// A value of the right type that will not do.
    Value,
    /// A key that a mapping does not have.
    Key,
    /// A position that a sequence does not have.
    Index,
    /// A division by zero.
    ZeroDivision,
    /// Something of Python that flows may not use.
    Forbidden,
    /// Past one of the bounds.
    TooLarge,
}

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// The sort of error.
    pub kind: ErrorKind,
    /// What is wrong, lower-case.
    pub message: String,
    /// Where: characters from the start of the text.
    pub offset: usize,
}

/// An error that may not know yet where it is.
#[derive(Debug)]
pub(super) struct Fail {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
    pub(super) offset: Option<usize>,
}

pub(super) type Res<T> = Result<T, Fail>;

impl Fail {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Fail {
        Fail { kind, message: message.into(), offset: None }
    }

    /// The same error, at `offset` unless it knew better.
    pub(super) fn at(mut self, offset: usize) -> Fail {
        self.offset.get_or_insert(offset);
        self
    }

    pub(super) fn into_error(self, offset: usize) -> ExprError {
        ExprError { kind: self.kind, message: self.message, offset: self.offset.unwrap_or(offset) }
    }
}

pub(super) fn type_error<T>(message: impl Into<String>) -> Res<T> {
    Err(Fail::new(ErrorKind::Type, message))
}

pub(super) fn value_error<T>(message: impl Into<String>) -> Res<T> {
    Err(Fail::new(ErrorKind::Value, message))
}

pub(super) fn forbidden<T>(message: impl Into<String>) -> Res<T> {
    Err(Fail::new(ErrorKind::Forbidden, message))
}

pub(super) fn too_large<T>(message: impl Into<String>) -> Res<T> {
    Err(Fail::new(ErrorKind::TooLarge, message))
}
